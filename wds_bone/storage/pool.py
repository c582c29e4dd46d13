"""Run small tasks in daemon threads.

In: functions.
Out: calls of `report`, in the thread of the task.
Invariant: a pool that is closed or gone leaves no thread behind except one that is stuck in the operating system.
Such a thread ends with the process; in a `ThreadPoolExecutor` it would keep the process from exiting.

The thread that submits takes no lock of Python's `threading` or `concurrent.futures`: Ctrl-C between taking such a lock
and the block that releases it would leave the threads of the pool waiting for it forever.
"""

import atexit
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from wds_bone.errors import ConfigError
from wds_bone.storage.finalizer import call_when_gone

CLOSE_SECONDS = 5.0
Report = Callable[[BaseException | None], object]
_Task = tuple[Callable[..., object], tuple[Any, ...], Report]


@dataclass(eq=False)
class _Crew:
    """What the threads of a pool share; they must not reference the pool, so that it can be gone before they end."""

    tasks: SimpleQueue[_Task | None] = field(default_factory=SimpleQueue)
    ended: SimpleQueue[None] = field(default_factory=SimpleQueue)
    stopped: list[bool] = field(default_factory=list)
    num_running: int = 0


_open: dict[int, _Crew] = {}  # the crews of all pools that have not been closed and still have threads


class DaemonPool:
    """Daemon threads that run tasks in the order of submission.

    They end when the pool is closed or gone, and at interpreter exit at the latest. The pool holds no reference to a
    task that is done, so what owns the pool may submit its own methods.

    Args:
        num_threads: number of threads.
        name: the threads are called `name-0`, `name-1`, ...

    Attributes:
        stopped: not empty once running tasks should return.

    Raises:
        ConfigError: if the system does not allow so many threads.
    """

    def __init__(self, num_threads: int, *, name: str) -> None:
        self._crew = crew = _Crew()
        self.stopped = crew.stopped
        _open[id(crew)] = crew
        call_when_gone(self, crew.tasks.put, None)
        call_when_gone(self, crew.stopped.append, True)  # called first
        self._name = name
        try:
            for _ in range(num_threads):
                self.add_thread(num_threads)
        except ConfigError:
            self.close()
            raise

    @property
    def num_threads(self) -> int:
        """The number of threads that were started."""
        return self._crew.num_running

    def add_thread(self, num_threads: int | None = None) -> None:
        """Start one more thread; only one thread at a time may call this.

        Args:
            num_threads: how many threads are needed, for the error; None needs only this one more.

        Raises:
            ConfigError: if the system does not allow it.
        """
        number = self._crew.num_running
        _start_thread(self._crew, f"{self._name}-{number}", num_threads=num_threads or number + 1)

    def submit(self, function: Callable[..., object], *arguments: Any, report: Report) -> None:
        """Schedule `function(*arguments)`, and after it `report(error)`, with None if there was no error."""
        self._crew.tasks.put((function, arguments, report))

    def close(self) -> None:
        """Discard the tasks that have not started, and wait at most `CLOSE_SECONDS` for all threads to end."""
        _close(self._crew)


def _start_thread(crew: _Crew, name: str, *, num_threads: int) -> None:
    """Start a thread, and drop the object: its last reference must be that of the thread itself.

    `threading` has a weak reference to each thread, with a callback in Python; see `storage.finalizer`.
    """
    try:
        Thread(target=_work, args=[crew], name=name, daemon=True).start()
    except RuntimeError as error:
        raise ConfigError(
            f"the system does not let this process start {num_threads:,} threads",
            expected="a limit of processes (`ulimit -u`, or that of the container) that allows them",
            got=f"{error} after {crew.num_running:,} threads",
            do="use fewer threads, or raise that limit",
        ) from error
    crew.num_running += 1


def _close(crew: _Crew) -> None:
    if _open.pop(id(crew), None) is None:
        return
    crew.stopped.append(True)
    with suppress(Empty):
        while True:
            crew.tasks.get_nowait()
    crew.tasks.put(None)
    deadline = time.monotonic() + CLOSE_SECONDS
    with suppress(Empty):
        for _ in range(crew.num_running):
            crew.ended.get(timeout=max(0.0, deadline - time.monotonic()))


def _work(crew: _Crew) -> None:
    while not crew.stopped and (task := crew.tasks.get()):
        function, arguments, report = task
        # All references are dropped before the report, so that the memory of a discarded batch is free at once.
        del task
        try:
            function(*arguments)
        except BaseException as error:  # reported to whoever waits for the task
            result: BaseException | None = error
        else:
            result = None
        del function, arguments
        report(result)
        del report, result
    crew.tasks.put(None)  # wakes the next thread
    crew.ended.put(None)
    if crew.ended.qsize() == crew.num_running:
        _open.pop(id(crew), None)


def _close_all() -> None:
    """Close all pools: a thread that needs the interpreter while it shuts down may crash the process."""
    for crew in list(_open.values()):
        _close(crew)


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_open.clear)  # a child has no threads to wait for
