"""Kill `wds-bone make-shards`, or make a system call fail, at a chosen point of the run."""

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.sharding.film_sets import make

CHANGES = ("rename", "unlink", "rmdir", "mkdir")
"""The calls that change the names in a folder; between two of them, nothing changes that a repeated run can see."""


def make_until_killed(number: int, out: Path, *arguments: str) -> bool:
    """Run the command, kill it with SIGKILL before its name change `number`, and return whether it got that far."""
    child = os.fork()
    if not child:
        count = Countdown(number, lambda: os.kill(os.getpid(), signal.SIGKILL))
        for name in CHANGES:
            setattr(os, name, count.wrap(getattr(os, name)))
        os._exit(make(out, *arguments))
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


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
