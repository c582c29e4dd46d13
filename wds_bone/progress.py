"""Report the progress of a long task: a bar with rate and ETA on a terminal, plain lines elsewhere.

In: the amounts done so far.
Out: text on stderr.
Invariant: a log file gets at most one line every `LINE_SECONDS`, plus the last one.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from tqdm import tqdm

LINE_SECONDS = 10.0
BYTES = "B"


def print_above(text: str) -> None:
    """Print a line to stderr, above the bar if there is one."""
    if sys.stderr is not None:  # print would use standard output
        tqdm.write(text, file=sys.stderr)


@contextmanager
def progress(total: int, unit: str, *, label: str, start: int = 0) -> Iterator[Callable[[int], None]]:
    """Yield a function that is called with the amount done so far.

    Args:
        total: the amount of all the work, in `unit`.
        unit: what is counted, such as samples; `BYTES` is scaled to a readable size.
        label: the text in front of the numbers.
        start: the amount that was already done; it does not count toward the rate.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield _LinePrinter(total, unit, label, start).show
        return
    with tqdm(total=total, initial=start, unit=unit, desc=label, unit_scale=unit == BYTES, smoothing=0.05) as bar:
        yield lambda done: _advance(bar, done)


def format_duration(seconds: float) -> str:
    """Return a duration as hours, minutes and seconds, such as "0:01:20" or "2 days, 3:00:00"."""
    return str(timedelta(seconds=round(seconds)))


def _advance(bar: "tqdm[object]", done: int) -> None:
    bar.update(done - bar.n)


class _LinePrinter:
    """Print progress as lines of text, limited to one every `LINE_SECONDS`."""

    def __init__(self, total: int, unit: str, label: str, start: int) -> None:
        self._total, self._label, self._start = total, label, start
        self._unit = "MB" if unit == BYTES else unit
        self._scale = 1e6 if unit == BYTES else 1.0
        self._began = self._last = time.monotonic()
        self._finished = False

    def show(self, done: int) -> None:
        """Print a line if the last one is old enough or the work is finished."""
        now = time.monotonic()
        finished = done >= self._total
        if self._finished or (not finished and now - self._last < LINE_SECONDS):
            return
        self._last, self._finished = now, finished
        rate = (done - self._start) / max(now - self._began, 1e-9)
        remaining = f", {(self._total - done) / rate:,.0f} s left" if rate and not finished else ""
        amounts = (f"{amount / self._scale:,.0f}" for amount in (done, self._total, rate))
        line = "{}: {} of {} {unit}, {} {unit}/s{}".format(self._label, *amounts, remaining, unit=self._unit)
        if sys.stderr is not None:  # print would use standard output
            print(line, file=sys.stderr, flush=True)  # noqa: T201
