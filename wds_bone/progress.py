"""Report the progress of a long task: a bar with rate and time left on a terminal, plain lines elsewhere.

In: the amounts done so far.
Out: text on stderr.
Invariant: a log file gets at most one line every `LINE_SECONDS`, plus the last one. A rate is that since the first
amount was reported, so it contains no preparations, and it is not shown before there is a second amount.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from tqdm import tqdm

LINE_SECONDS = 10.0
BYTES = "B"
_FEW = 9.95  # such rates are shown with two digits


def print_above(text: str) -> None:
    """Print a line to stderr, above the bar if there is one."""
    if sys.stderr is not None:  # print would use standard output
        tqdm.write(text, file=sys.stderr)


@contextmanager
def progress(total: int, unit: str, *, label: str, start: int = 0) -> Iterator[Callable[[int], None]]:
    """Yield a function that is called with the amount done so far.

    Its first call starts the clock of the rate: call it with `start` at once if there is nothing to prepare.

    Args:
        total: the amount of all the work, in `unit`.
        unit: what is counted, in the singular, such as "sample"; `BYTES` is scaled to a readable size.
        label: the text in front of the numbers.
        start: the amount that was already done.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield _LinePrinter(total, unit, label).show
        return
    shown_unit = unit if unit == BYTES else f" {unit}"
    with tqdm(total=total, initial=start, unit=shown_unit, desc=label, unit_scale=unit == BYTES, smoothing=0.05) as bar:
        is_running = False

        def show(done: int) -> None:
            nonlocal is_running
            if is_running:
                bar.update(done - bar.n)
            else:
                _start_clock(bar, done)
            is_running = True

        yield show


def format_duration(seconds: float) -> str:
    """Return a duration as hours, minutes and seconds, such as "0:01:20" or "2 days, 3:00:00"."""
    return str(timedelta(seconds=round(seconds)))


def _start_clock(bar: "tqdm[object]", done: int) -> None:
    """Let a bar compute its rate from now, and from the amount that is done now."""
    bar.n = bar.last_print_n = bar.initial = done
    bar.unpause()
    bar.refresh()


class _LinePrinter:
    """Print progress as lines of text, limited to one every `LINE_SECONDS`."""

    def __init__(self, total: int, unit: str, label: str) -> None:
        self._total, self._label = total, label
        self._unit, self._scale = ("MB", 1e6) if unit == BYTES else (unit, 1.0)
        self._last, self._finished = time.monotonic(), False
        self._began: tuple[int, float] | None = None

    def show(self, done: int) -> None:
        """Print a line if the last one is old enough or the work is finished."""
        now, finished = time.monotonic(), done >= self._total
        if self._began is None:
            self._began = done, now
        if self._finished or (not finished and now - self._last < LINE_SECONDS):
            return
        self._last, self._finished = now, finished
        amounts = " of ".join(f"{amount / self._scale:,.0f}" for amount in (done, self._total))
        line = f"{self._label}: {amounts} {self._plural(self._total)}{self._speed(done, now)}"
        if sys.stderr is not None:  # print would use standard output
            print(line, file=sys.stderr, flush=True)  # noqa: T201

    def _speed(self, done: int, now: float) -> str:
        """Return the rate and the time left in words, "" before they are known."""
        assert self._began is not None
        done_before, began = self._began
        if done <= done_before or now <= began:
            return ""
        rate = (done - done_before) / (now - began)
        scaled = rate / self._scale
        shown = f"{scaled:#.2g}" if scaled < _FEW else f"{scaled:,.0f}"
        left = "" if self._finished else f", about {format_duration((self._total - done) / rate)} left"
        return f", {shown} {self._plural(2)}/s{left}"

    def _plural(self, count: int) -> str:
        return self._unit if count == 1 or self._unit == "MB" else f"{self._unit}s"
