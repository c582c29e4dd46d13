"""Answer SIGTERM, SIGINT, SIGHUP and SIGUSR1: stop at once, or when the training loop next looks.

In: signals.
Out: an `Interrupted` exception, or the number of the first signal.
Invariant: after the first signal, the process ends within `GRACE_SECONDS`, unless the signal came inside `deferred()`;
the second signal ends it immediately.
"""

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
GRACE_SECONDS = 5.0
"""How long cleaning up may take after a signal; it is also the end of a process that swallows the exception."""
FORWARD_SECONDS = 2.0
"""The time within which a launcher forwards a signal that the terminal has already sent to its processes."""


_POLL_SECONDS = 0.1
_STDERR = 2


class Interrupted(KeyboardInterrupt):
    """A signal asks the process to end."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")
        self.exit_code = 128 + signal_number


class Interruption:
    """Receives signals while it is open; in other threads than the main one, it does nothing.

    The first signal raises `Interrupted`; inside `deferred()`, it is only recorded. Python runs signal handlers between
    bytecode instructions, so a call that waits for another rank returns first. A SIGHUP that is ignored already, as by
    nohup, stays ignored, except that a launcher, which does not ignore it, passes it on.

    Args:
        ignore_repeats_seconds: a second signal within this time after the first one is ignored, because a launcher
            forwards what the terminal has already sent to all processes.

    Attributes:
        signal_number: the number of the first signal; None until one arrives.
    """

    def __init__(self, *, ignore_repeats_seconds: float | None = None) -> None:
        self.signal_number: int | None = None
        if ignore_repeats_seconds is None:
            ignore_repeats_seconds = FORWARD_SECONDS if is_launched() else 0.0
        self._ignore_repeats_seconds, self._received_at = ignore_repeats_seconds, 0.0
        self._is_deferred = self._is_closed = self._is_swallowed = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            is_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN and not is_launched()
            ignored = {signal.SIGHUP} if is_ignored else set()
            self._previous = {
                number: signal.signal(number, self._receive) for number in SIGNALS if number not in ignored
            }
            self._previous_hook, sys.unraisablehook = sys.unraisablehook, self._receive_unraisable
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_closed = True
        for number, previous in self._previous.items():
            signal.signal(number, previous)
        if self._previous:
            sys.unraisablehook = self._previous_hook

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Only record signals inside the block, which checks `is_requested` and ends by itself."""
        self._is_deferred, outer = True, self._is_deferred
        try:
            yield
        finally:
            self._is_deferred = outer

    @property
    def is_requested(self) -> bool:
        """Whether a signal has arrived."""
        return self.signal_number is not None

    @property
    def exit_code(self) -> int:
        """The exit code of the process: 128 + the number of the signal, as in shells; 0 without a signal."""
        return 128 + self.signal_number if self.signal_number else 0

    def check(self) -> None:
        """Raise `Interrupted` if a signal has been recorded."""
        if self.signal_number is not None:
            raise Interrupted(self.signal_number)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self.signal_number is not None:
            self._receive_again(number)
            return
        self.signal_number, self._received_at = number, time.monotonic()
        if not self._is_deferred:
            # Not threading.Thread: the signal may have come while its locks are held.
            _thread.start_new_thread(self._insist, (number,))
            raise Interrupted(number)

    def _receive_again(self, number: int) -> None:
        if time.monotonic() - self._received_at >= self._ignore_repeats_seconds:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _receive_unraisable(self, unraisable: "sys.UnraisableHookArgs") -> None:
        """Note that Python swallowed the exception, which it does in destructors and callbacks."""
        if isinstance(unraisable.exc_value, Interrupted):
            self.signal_number, self._is_swallowed = None, True
        else:
            self._previous_hook(unraisable)

    def _insist(self, number: int) -> None:
        """Send the signal again if its exception was swallowed, and end a process that takes too long to stop."""
        deadline = time.monotonic() + GRACE_SECONDS
        while not self._is_closed and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
            if self._is_swallowed:
                self._is_swallowed = False
                signal.pthread_kill(threading.main_thread().ident or 0, number)
        if not self._is_closed:
            with suppress(OSError):
                os.write(_STDERR, f"{Interrupted(number)}\n".encode())
            os._exit(128 + number)


def is_launched() -> bool:
    """Return whether a launcher started this process as one of several."""
    return "RANK" in os.environ or "WORLD_SIZE" in os.environ
