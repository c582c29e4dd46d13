"""Kill `wds-bone make-shards`, or make a system call fail, at a chosen point of the run."""

import errno
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.sharding.film_sets import make

_SERVER = multiprocessing.get_context("forkserver")
CHANGES = ("rename", "unlink", "rmdir", "mkdir")
"""The calls that change the names in a folder; between two of them, nothing changes that a repeated run can see."""


def make_until_killed(number: int, out: Path, *arguments: str) -> bool:
    """Run the command, kill it with SIGKILL before its name change `number`, and return whether it got that far.

    The command is forked from a process that has no threads, because a fork of the tests with all their threads may
    wait forever for a lock that one of them held.
    """
    _SERVER.set_forkserver_preload([__name__])
    child = _SERVER.Process(target=_make_until_killed, args=(number, out, *arguments))
    child.start()
    child.join()
    assert child.exitcode in (0, -signal.SIGKILL)
    return child.exitcode != 0


def _make_until_killed(number: int, out: Path, *arguments: str) -> None:
    count = Countdown(number, lambda: os.kill(os.getpid(), signal.SIGKILL))
    for name in CHANGES:
        setattr(os, name, count.wrap(getattr(os, name)))
    sys.exit(make(out, *arguments))


def failing_call(code: int) -> Callable[[], None]:
    """Return a function that fails like a system call with error `code`."""

    def fail() -> None:
        raise OSError(code, os.strerror(code), errno.errorcode[code])

    return fail


class Countdown:
    """Count calls and run an action before the chosen one."""

    def __init__(self, number: int, action: Callable[[], None]) -> None:
        self.left = number
        self._action = action

    def wrap(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return `call` wrapped so that it is counted; unlinking a missing file changes nothing and does not count."""

        def counted(path: Any, *rest: Any, **options: Any) -> Any:
            if call.__name__ != "unlink" or os.path.lexists(path):
                self.left -= 1
                if self.left == 0:
                    self._action()
            return call(path, *rest, **options)

        return counted
