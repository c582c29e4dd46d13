import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from wds_bone.stream import pool as pool_module
from wds_bone.stream.pool import DaemonPool


def test_tasks_run_in_order_and_their_futures_hold_their_errors() -> None:
    pool, done = DaemonPool(1, name="test"), list[int]()
    futures = [pool.submit(done.append, number) for number in range(20)]
    broken = pool.submit(lambda: 1 / 0)
    for future in futures:
        future.result(timeout=10)
    assert done == list(range(20))
    with pytest.raises(ZeroDivisionError):
        broken.result(timeout=10)
    pool.close()


def test_closing_cancels_tasks_that_have_not_started_and_leaves_no_thread() -> None:
    before, started, gate = threading.active_count(), threading.Barrier(3), threading.Event()
    pool = DaemonPool(2, name="test")
    running = [pool.submit(lambda: (started.wait(10), gate.wait(10))) for _ in range(2)]
    started.wait(10)
    waiting = [pool.submit(print) for _ in range(5)]
    threading.Timer(0.2, gate.set).start()
    pool.close()
    assert all(future.result(timeout=1) is None for future in running)
    for future in waiting:
        with pytest.raises(CancelledError):
            future.result(timeout=1)
    assert threading.active_count() <= before + 1  # the timer may still be ending


def test_a_task_releases_its_arguments_before_its_result_is_set() -> None:
    """Otherwise the memory of a batch that is discarded at once would not be free for the next one."""

    class Argument:
        pass

    pool, started, gate = DaemonPool(1, name="test"), threading.Barrier(2), threading.Event()
    argument, freed = Argument(), list[bool]()
    alive = weakref.ref(argument)
    future = pool.submit(lambda _: (started.wait(10), gate.wait(10)), argument)
    started.wait(10)
    future.add_done_callback(lambda _: freed.append(alive() is None))  # runs in the thread of the task
    del argument
    gate.set()
    pool.close()
    assert freed == [True]


def test_closing_waits_for_all_stuck_threads_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "CLOSE_SECONDS", 0.5)
    started, gate, pool = threading.Barrier(9), threading.Event(), DaemonPool(8, name="test")
    for _ in range(8):
        pool.submit(lambda: (started.wait(10), gate.wait(60)))
    started.wait(10)
    start = time.monotonic()
    pool.close()
    assert 0.4 < time.monotonic() - start < 2.0  # 4 seconds if they were awaited one after another
    gate.set()


@pytest.mark.slow
def test_a_program_that_ends_inside_a_loop_exits_cleanly(tiny_shards: Path) -> None:
    program = (
        "import sys; from wds_bone import BoneAgeStream; "
        "batches = BoneAgeStream(sys.argv[1], split='train', batch_size=4).endless(); next(batches)"
    )
    command = [sys.executable, "-c", program, str(tiny_shards)]
    run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stderr) == (0, "")
