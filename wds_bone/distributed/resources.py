"""Measure the memory of the process, how long it has worked, and how much of that it waited.

Out: bytes and seconds.
Invariant: a measurement takes microseconds and changes nothing.
"""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

_STATM = Path("/proc/self/statm")


def resident_bytes() -> int:
    """Return the resident memory of the process, or its peak on systems that do not report the current value."""
    if _STATM.exists():
        return int(_STATM.read_text().split()[1]) * resource.getpagesize()
    return peak_bytes(torch.device("cpu"))


def peak_bytes(device: torch.device) -> int:
    """Return the peak memory of a CUDA device, or of the process if the device is the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class Clock:
    """Measures the seconds in which a run is trained, over all of its launches.

    Args:
        before_seconds: those of the earlier launches.
    """

    def __init__(self, before_seconds: float = 0.0) -> None:
        self._before_seconds = before_seconds
        self._start: float | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time spent inside the block."""
        self._start = time.monotonic()
        yield
        self._before_seconds, self._start = self.elapsed_seconds(), None

    def elapsed_seconds(self) -> float:
        """Return the seconds counted so far."""
        return self._before_seconds + (0.0 if self._start is None else time.monotonic() - self._start)


class Stopwatch:
    """Measures the time since the last lap, how much of it was spent waiting, and the number of waits."""

    def __init__(self) -> None:
        self._restart()

    def _restart(self) -> None:
        self._start, self._wait_seconds, self._num_waits = time.perf_counter(), 0.0, 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time spent inside the block as waiting."""
        start = time.perf_counter()
        yield
        self._wait_seconds += time.perf_counter() - start
        self._num_waits += 1

    def lap(self) -> tuple[float, float]:
        """Return the waits per second and the fraction of time spent waiting, and restart."""
        seconds = time.perf_counter() - self._start
        measured = self._num_waits / seconds, self._wait_seconds / seconds
        self._restart()
        return measured
