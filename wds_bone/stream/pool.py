"""Run small tasks in daemon threads.

In: functions. Out: futures. Invariant: closing leaves no thread behind, but for one that is stuck in the operating
system; that one ends with the process, which `ThreadPoolExecutor` would not let exit.
"""

from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

CLOSE_SECONDS = 10.0
_Task = tuple[Future[None], Callable[..., None], tuple[Any, ...]]


class DaemonPool:
    """Owns a number of threads that run tasks in the order of their submission."""

    def __init__(self, num_threads: int, *, name: str) -> None:
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        names = (f"{name}-{number}" for number in range(num_threads))
        self._threads = [Thread(target=_work, args=[self._tasks], name=name, daemon=True) for name in names]
        for thread in self._threads:
            thread.start()

    def submit(self, function: Callable[..., None], *arguments: Any) -> Future[None]:
        """Have `function(*arguments)` run; the future holds its error, if any."""
        future: Future[None] = Future()
        self._tasks.put((future, function, arguments))
        return future

    def close(self, *, wait: bool) -> None:
        """Drop the tasks that have not begun and end the threads, after at most `CLOSE_SECONDS` if `wait`."""
        try:
            while task := self._tasks.get_nowait():
                task[0].cancel()
        except Empty:
            pass
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads if wait else ():
            thread.join(CLOSE_SECONDS)


def _work(tasks: "SimpleQueue[_Task | None]") -> None:
    while task := tasks.get():
        future, function, arguments = task
        try:
            function(*arguments)
        except BaseException as error:  # it belongs to whoever asks for the result
            future.set_exception(error)
        else:
            future.set_result(None)
        del task, future, function, arguments  # an idle thread must not keep the last batch alive
