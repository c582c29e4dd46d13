"""Run small tasks in daemon threads.

In: functions.
Out: futures.
Invariant: closing leaves no thread behind except one that is stuck in the operating system. Such a thread ends with
the process; in a `ThreadPoolExecutor` it would keep the process from exiting.
"""

import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from wds_bone.errors import WdsBoneError

CLOSE_SECONDS = 5.0
_Task = tuple[Future[None], Callable[..., None], tuple[Any, ...]]
_Tasks = SimpleQueue[_Task | None]


class DaemonPool:
    """Daemon threads that run tasks in the order of submission; closed at interpreter exit at the latest."""

    def __init__(self, num_threads: int, *, name: str) -> None:
        self._tasks: _Tasks = SimpleQueue()
        threads: list[Thread] = []
        # A thread that needs the interpreter while it shuts down may crash the process.
        self._close = weakref.finalize(self, _close, self._tasks, threads)
        for number in range(num_threads):
            threads.append(Thread(target=_work, args=[self._tasks], name=f"{name}-{number}", daemon=True))
            try:
                threads[-1].start()
            except RuntimeError as error:  # "can't start new thread"
                raise _thread_error(num_threads, number) from error

    def submit(self, function: Callable[..., None], *arguments: Any) -> Future[None]:
        """Schedule `function(*arguments)`; the future holds its error, if any."""
        future: Future[None] = Future()
        self._tasks.put((future, function, arguments))
        return future

    def close(self) -> None:
        """Cancel the tasks that have not started, and wait at most `CLOSE_SECONDS` for all threads to end."""
        self._close()


def _thread_error(wanted: int, started: int) -> WdsBoneError:
    return WdsBoneError(
        f"the system does not let this process start {wanted:,} threads",
        expected="a limit of processes (`ulimit -u`, or that of the container) that allows them",
        got=f"an error after {started:,} threads",
        do="use fewer threads, or raise that limit",
    )


def _close(tasks: _Tasks, threads: Sequence[Thread]) -> None:
    try:
        while task := tasks.get_nowait():
            task[0].cancel()
    except Empty:
        pass
    for _ in threads:
        tasks.put(None)
    deadline = time.monotonic() + CLOSE_SECONDS
    for thread in threads:
        if thread.ident is not None:
            thread.join(max(0.0, deadline - time.monotonic()))


def _work(tasks: _Tasks) -> None:
    while task := tasks.get():
        future, function, arguments = task
        # All references are dropped before the result is set, so that the memory of a discarded batch is free at once.
        del task
        try:
            function(*arguments)
        except BaseException as error:  # reported to whoever asks for the result
            del function, arguments
            future.set_exception(error)
        else:
            del function, arguments
            future.set_result(None)
        del future
