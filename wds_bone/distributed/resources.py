"""The process and its clock -> memory and waiting, for the journal.

In comes nothing but the machine, out go bytes and seconds. The invariant: reading them costs microseconds and changes
nothing.
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
    """Return the memory that the process holds; where the system does not tell, the most it ever held."""
    if _STATM.exists():
        return int(_STATM.read_text().split()[1]) * resource.getpagesize()
    return peak_bytes(torch.device("cpu"))


def peak_bytes(device: torch.device) -> int:
    """Return the most memory that was ever in use: of the device, or of the process if that is the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class Stopwatch:
    """Measures since the last lap: seconds, how many of them were spent waiting, and how often."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget what was measured."""
        self._start, self._wait_seconds, self._num_waits = time.perf_counter(), 0.0, 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time inside as waiting."""
        start = time.perf_counter()
        yield
        self._wait_seconds += time.perf_counter() - start
        self._num_waits += 1

    def lap(self) -> tuple[float, float]:
        """Return waits per second and the fraction of the time spent in them, and start again."""
        seconds = time.perf_counter() - self._start
        measured = self._num_waits / seconds, self._wait_seconds / seconds
        self.restart()
        return measured
