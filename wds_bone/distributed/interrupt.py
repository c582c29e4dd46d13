"""SIGTERM and SIGINT -> a request that the loop sees between two steps.

In come signals, out goes their number. The invariant: the first signal never interrupts a step or a save; the second
one ends the process at once.
"""

import os
import signal
import time
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interruption:
    """Listens for signals while it is open; for the main thread.

    Python hears a signal between two of its own instructions: a call that waits for another rank ends first.

    Args:
        repeats_seconds: a second signal counts only so long after the first: a launcher passes on what the terminal
            has sent to all processes already.

    Attributes:
        signal_number: of the signal that came, None until then.
    """

    def __init__(self, *, repeats_seconds: float = 0.0) -> None:
        self.signal_number: int | None = None
        self._repeats_seconds, self._came_at = repeats_seconds, 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    @property
    def exit_code(self) -> int:
        """What the process should exit with: 128 + the signal's number as shells have it, 0 without a signal."""
        return 128 + self.signal_number if self.signal_number else 0

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.signal_number is None:
            self.signal_number, self._came_at = number, time.monotonic()
        elif time.monotonic() - self._came_at >= self._repeats_seconds:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
