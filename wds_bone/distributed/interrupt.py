"""Turn SIGTERM and SIGINT into a request that the training loop checks between steps.

In: signals.
Out: the number of the first signal.
Invariant: the first signal never interrupts a step or a save; the second one ends the process immediately.
"""

import os
import signal
import time
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interruption:
    """Receives signals while it is open; for the main thread only.

    Python runs signal handlers between bytecode instructions, so a call that waits for another rank returns first.

    Args:
        ignore_repeats_seconds: a second signal within this time after the first one is ignored, because a launcher
            forwards what the terminal has already sent to all processes.

    Attributes:
        signal_number: the number of the first signal; None until one arrives.
    """

    def __init__(self, *, ignore_repeats_seconds: float = 0.0) -> None:
        self.signal_number: int | None = None
        self._ignore_repeats_seconds, self._received_at = ignore_repeats_seconds, 0.0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._previous = {number: signal.signal(number, self._receive) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)

    @property
    def is_requested(self) -> bool:
        """Whether a signal has arrived."""
        return self.signal_number is not None

    @property
    def exit_code(self) -> int:
        """The exit code of the process: 128 + the number of the signal, as in shells; 0 without a signal."""
        return 128 + self.signal_number if self.signal_number else 0

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self.signal_number is None:
            self.signal_number, self._received_at = number, time.monotonic()
        elif time.monotonic() - self._received_at >= self._ignore_repeats_seconds:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
