import threading
from concurrent.futures import Future
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wds_bone.errors import ShardError
from wds_bone.stream import load
from wds_bone.stream.load import BATCHES_AHEAD, MAX_SAMPLES_PER_TASK, samples_per_task

REQUEST, BATCH = SimpleNamespace(plan="plan"), SimpleNamespace()


@given(threads=st.integers(1, 128), rows=st.integers(1, 1024))
def test_tasks_are_small_enough_to_keep_every_thread_busy(threads: int, rows: int) -> None:
    step = samples_per_task(rows, threads=threads)
    assert 1 <= step <= MAX_SAMPLES_PER_TASK
    assert BATCHES_AHEAD * len(range(0, rows, step)) >= min(threads, BATCHES_AHEAD * rows)


def test_an_error_is_raised_while_other_samples_of_the_batch_are_still_being_read() -> None:
    stuck, failed = Future[None](), Future[None]()
    failed.set_exception(ShardError("damaged", do="fix it"))
    with pytest.raises(ShardError, match="damaged"):
        load._finish(REQUEST, BATCH, [stuck, failed])  # type: ignore[arg-type]


def test_of_several_errors_the_first_in_the_batch_is_raised() -> None:
    tasks = [Future[None]() for _ in range(8)]
    for number, task in enumerate(tasks):
        task.set_exception(ShardError(f"sample {number}", do="fix it"))
    with pytest.raises(ShardError, match="sample 0"):
        load._finish(REQUEST, BATCH, tasks)  # type: ignore[arg-type]


def test_a_batch_without_progress_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "STALL_SECONDS", 0.05)
    done, stuck = Future[None](), Future[None]()
    done.set_result(None)
    with pytest.raises(TimeoutError):
        load._finish(REQUEST, BATCH, [done, stuck])  # type: ignore[arg-type]


def test_a_slow_batch_that_makes_progress_does_not_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "STALL_SECONDS", 1.0)
    tasks = [Future[None]() for _ in range(4)]
    timers = [threading.Timer(0.4 * (number + 1), task.set_result, [None]) for number, task in enumerate(tasks)]
    for timer in timers:
        timer.start()
    assert load._finish(REQUEST, BATCH, tasks) == ("plan", BATCH)  # type: ignore[arg-type]  # takes longer than STALL_SECONDS
    assert all(task.done() for task in tasks)
