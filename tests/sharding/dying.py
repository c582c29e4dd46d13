"""Run make_shards in a copy of this process that is killed, or refused by the disk, at a chosen system call."""

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.sharding.film_sets import make

CHANGES = ("rename", "unlink", "rmdir", "mkdir")
"""The calls that change which names a folder has: between two of them nothing that a repetition sees differs."""


def make_until_killed(number: int, out: Path, *arguments: str) -> bool:
    """Run make_shards and kill it with SIGKILL before the change `number` of a name; return whether it got that far."""
    child = os.fork()
    if not child:
        count = Countdown(number, lambda: os.kill(os.getpid(), signal.SIGKILL))
        for name in CHANGES:
            setattr(os, name, count.around(getattr(os, name)))
        os._exit(make(out, *arguments))
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def refuse(code: int) -> Callable[[], None]:
    """Return a function that fails like a system call with `code`."""

    def fail() -> None:
        raise OSError(code, os.strerror(code), errno.errorcode[code])

    return fail


class Countdown:
    """Lets calls through until the chosen one, before which something happens."""

    def __init__(self, number: int, happen: Callable[[], None]) -> None:
        self.left = number
        self._happen = happen

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return `call` with a count; removing a name that is not there changes nothing and does not count."""

        def counted(path: Any, *rest: Any, **options: Any) -> Any:
            if call.__name__ != "unlink" or os.path.lexists(path):
                self.left -= 1
                if self.left == 0:
                    self._happen()
            return call(path, *rest, **options)

        return counted
