"""Read films in threads, ahead of the model that predicts them, or of the shard that they are written to.

In: films, and a function that reads one.
Out: what the function returns for each film, or its error, in order.
Invariant: a bounded number of films, of a bounded number of bytes, is in memory, and no thread is left when the
generator ends or is dropped.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from typing import TypeVar

from wds_bone.errors import WdsBoneError
from wds_bone.storage.pool import DaemonPool

MAX_BYTES = 2**27
FilmT = TypeVar("FilmT")
ReadT = TypeVar("ReadT")


def read_ahead(
    films: Iterable[FilmT],
    read: Callable[[FilmT], ReadT],
    *,
    threads: int,
    ahead: int,
    bytes_of: Callable[[FilmT], int] = lambda _: 0,
) -> Iterator[ReadT | WdsBoneError]:
    """Yield what `read` returns for each film, or the error that it raises; in order, lazily.

    Args:
        films: the films.
        read: reads one film; called in several threads at once.
        threads: number of threads.
        ahead: how many films may have been read, or be read, before the first of them is asked for.
        bytes_of: returns the size of a film; several are read at a time only if they have at most `MAX_BYTES`.

    Raises:
        ConfigError: if so many threads cannot be started.
        Exception: any error of `read` that is not a `WdsBoneError`.
    """
    pool = DaemonPool(threads, name="wds_bone-films")
    started = deque[tuple[int, list[ReadT], SimpleQueue[BaseException | None]]]()
    for film in films:
        num_bytes = bytes_of(film)
        while started and (len(started) > ahead or sum(other[0] for other in started) + num_bytes > MAX_BYTES):
            outcome = _wait(*started.popleft()[1:])
            yield outcome
        results, done = list[ReadT](), SimpleQueue[BaseException | None]()
        pool.submit(_append, results, read, film, report=done.put)
        started.append((num_bytes, results, done))
    while started:
        outcome = _wait(*started.popleft()[1:])
        yield outcome
    pool.close()


def _append(results: list[ReadT], read: Callable[[FilmT], ReadT], film: FilmT) -> None:
    results.append(read(film))


def _wait(results: list[ReadT], done: SimpleQueue[BaseException | None]) -> ReadT | WdsBoneError:
    error = done.get()
    if error is None:
        return results[0]
    if isinstance(error, WdsBoneError):
        return error
    raise error
