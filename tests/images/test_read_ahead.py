import gc
import threading

import pytest

from tests.threads import assert_threads_end
from wds_bone.errors import ImageError
from wds_bone.images.read_ahead import MAX_BYTES, read_ahead

LIMIT_SECONDS = 30
LARGE_FILMS = [MAX_BYTES // 2, MAX_BYTES // 2, MAX_BYTES // 3, 2 * MAX_BYTES, 1, MAX_BYTES - 1, 1, MAX_BYTES] * 3


def test_films_keep_their_order_and_errors_their_place() -> None:
    def read(film: int) -> int:
        if film % 3 == 1:
            raise ImageError(f"film {film}", do="nothing")
        return 10 * film

    found = list(read_ahead(range(20), read, threads=3, ahead=4))
    shown = [outcome.problem if isinstance(outcome, ImageError) else outcome for outcome in found]
    assert shown == [f"film {film}" if film % 3 == 1 else 10 * film for film in range(20)]


def test_several_films_are_read_at_once_while_the_first_is_used() -> None:
    together = threading.Barrier(3)

    def read(_: int) -> int:
        return together.wait(LIMIT_SECONDS)

    # The first film arrives only once three threads read a film each.
    assert sorted(read_ahead(range(6), read, threads=3, ahead=3)) == [0, 0, 1, 1, 2, 2]


def test_films_are_read_while_the_caller_works_but_only_so_many_ahead() -> None:
    num_started, sixth = list[int](), threading.Event()

    def read(film: int) -> int:
        num_started.append(film)
        if len(num_started) == 6:
            sixth.set()
        return film

    films = read_ahead(range(100), read, threads=1, ahead=5)
    next(films)
    assert sixth.wait(LIMIT_SECONDS)
    assert len(num_started) == 6  # the one that was delivered, and five ahead of it
    next(films)


def test_large_films_are_read_one_at_a_time_and_small_ones_together() -> None:
    lock, reading, most = threading.Lock(), list[int](), list[int]()

    def read(num_bytes: int) -> bytes:
        with lock:
            reading.append(num_bytes)
            most.append(sum(reading))
        return bytes(8)

    for film, contents in zip(
        LARGE_FILMS, read_ahead(LARGE_FILMS, read, threads=8, ahead=8, bytes_of=int), strict=True
    ):
        assert len(contents) == 8
        with lock:
            reading.remove(film)
    assert max(most) <= max(MAX_BYTES, *LARGE_FILMS)
    assert len(most) == len(LARGE_FILMS)


def test_an_error_that_the_user_cannot_fix_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        list(read_ahead([1, 0], lambda film: 1 // film, threads=1, ahead=1))


def test_a_dropped_generator_leaves_no_thread() -> None:
    before = threading.active_count()
    films = read_ahead(range(100), lambda film: film, threads=3, ahead=5)
    next(films)
    assert threading.active_count() > before
    del films
    gc.collect()
    assert_threads_end(before)


def test_no_films_are_no_error() -> None:
    assert list(read_ahead([], int, threads=1, ahead=1)) == []
