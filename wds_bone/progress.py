"""Show how far a long piece of work is: a bar with rate and ETA on a terminal, plain lines everywhere else.

In: the amounts done so far. Out: text on stderr. Invariant: a log file gets a line every few seconds, not thousands.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

LINE_SECONDS = 10.0
BYTES = "B"


@contextmanager
def progress(total: int, unit: str, *, label: str, start: int = 0) -> Iterator[Callable[[int], None]]:
    """Yield a function that takes the amount done so far, of `total`; `start` of them were done before."""
    if not sys.stderr.isatty():
        yield _Lines(total, unit, label, start).show
        return
    with tqdm(total=total, initial=start, unit=unit, desc=label, unit_scale=unit == BYTES, smoothing=0.05) as bar:
        yield lambda done: _advance(bar, done)


def _advance(bar: "tqdm[object]", done: int) -> None:
    bar.update(done - bar.n)


class _Lines:
    """What was last said and when, so that it is not said too often."""

    def __init__(self, total: int, unit: str, label: str, start: int) -> None:
        self._total, self._label, self._start = total, label, start
        self._unit = "MB" if unit == BYTES else unit
        self._scale = 1e6 if unit == BYTES else 1.0
        self._began = self._last = time.monotonic()
        self._finished = False

    def show(self, done: int) -> None:
        """Print a line, if the last one is old enough or the work is finished."""
        now = time.monotonic()
        finished = done >= self._total
        if self._finished or (not finished and now - self._last < LINE_SECONDS):
            return
        self._last, self._finished = now, finished
        rate = (done - self._start) / max(now - self._began, 1e-9)
        left = f", {(self._total - done) / rate:,.0f} s left" if rate and not finished else ""
        amounts = (f"{amount / self._scale:,.0f}" for amount in (done, self._total, rate))
        line = "{}: {} of {} {unit}, {} {unit}/s{}".format(self._label, *amounts, left, unit=self._unit)
        print(line, file=sys.stderr, flush=True)  # noqa: T201
