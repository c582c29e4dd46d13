import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import pytest

from tests.threads import assert_threads_end
from wds_bone.errors import ConfigError
from wds_bone.storage import pool as pool_module
from wds_bone.storage.pool import DaemonPool


def submit(pool: DaemonPool, function: Callable[..., object], *arguments: Any) -> "SimpleQueue[BaseException | None]":
    """Submit a task, and return a queue that receives its error or None."""
    result: SimpleQueue[BaseException | None] = SimpleQueue()
    pool.submit(function, *arguments, report=result.put)
    return result


def test_tasks_run_in_order_and_report_their_errors() -> None:
    pool, done = DaemonPool(1, name="test"), list[int]()
    results = [submit(pool, done.append, number) for number in range(20)]
    broken = submit(pool, lambda: 1 / 0)
    assert [result.get(timeout=10) for result in results] == [None] * 20
    assert done == list(range(20))
    assert isinstance(broken.get(timeout=10), ZeroDivisionError)
    pool.close()


def test_closing_discards_tasks_that_have_not_started_and_leaves_no_thread() -> None:
    before, started, gate = threading.active_count(), threading.Barrier(3), threading.Event()
    pool = DaemonPool(2, name="test")
    running = [submit(pool, lambda: (started.wait(10), gate.wait(10))) for _ in range(2)]
    started.wait(10)
    waiting = [submit(pool, print) for _ in range(5)]
    threading.Timer(0.2, gate.set).start()
    pool.close()
    assert [result.get(timeout=1) for result in running] == [None, None]
    assert_threads_end(before)
    for result in waiting:
        with pytest.raises(Empty):
            result.get_nowait()


def test_a_pool_that_is_gone_skips_its_tasks_and_leaves_no_thread() -> None:
    before, started, gate = threading.active_count(), threading.Barrier(2), threading.Event()
    pool = DaemonPool(1, name="test")
    running = submit(pool, lambda: (started.wait(10), gate.wait(10)))
    waiting = submit(pool, print)
    started.wait(10)
    del pool
    gate.set()
    assert running.get(timeout=10) is None
    assert_threads_end(before)
    assert waiting.empty()
    assert not pool_module._open


def test_threads_that_wait_for_a_task_end_when_their_pool_is_gone() -> None:
    before, pool = threading.active_count(), DaemonPool(3, name="test")
    assert submit(pool, print).get(timeout=10) is None
    del pool
    assert_threads_end(before)


def test_a_task_releases_its_arguments_before_it_reports() -> None:
    """Otherwise the memory of a batch that is discarded at once would not be free for the next one."""

    class Argument:
        pass

    pool, started, gate = DaemonPool(1, name="test"), threading.Barrier(2), threading.Event()
    argument, freed = Argument(), list[bool]()
    alive = weakref.ref(argument)
    pool.submit(
        lambda _: (started.wait(10), gate.wait(10)), argument, report=lambda _error: freed.append(alive() is None)
    )
    started.wait(10)
    del argument
    gate.set()
    pool.close()
    assert freed == [True]


def test_closing_waits_for_all_stuck_threads_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "CLOSE_SECONDS", 0.5)
    started, gate, pool = threading.Barrier(9), threading.Event(), DaemonPool(8, name="test")
    for _ in range(8):
        submit(pool, lambda: (started.wait(10), gate.wait(60)))
    started.wait(10)
    start = time.monotonic()
    pool.close()
    assert 0.4 < time.monotonic() - start < 2.0  # 4 seconds if they were awaited one after another
    gate.set()


@pytest.mark.fault("D9")
def test_more_threads_than_the_system_allows_are_an_error_with_both_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    before, real = threading.active_count(), threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name == "test-3":
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(ConfigError, match=r"(?s)99 threads.*can't start new thread after 3 threads.*fewer threads"):
        DaemonPool(99, name="test")
    assert_threads_end(before)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_threads_that_it_does_not_have() -> None:
    pool = DaemonPool(2, name="test")
    child = os.fork()
    if child == 0:
        start = time.monotonic()
        pool.close()
        os._exit(7 if time.monotonic() - start < 2 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    pool.close()


@pytest.mark.slow
def test_a_program_that_ends_inside_a_loop_exits_cleanly(tiny_shards: Path) -> None:
    program = (
        "import sys; from wds_bone import BoneAgeStream; "
        "stream = BoneAgeStream(sys.argv[1], split='train', batch_size=4); "
        "next(stream.endless()); batches = stream.endless(); next(batches)"  # one loop is dropped, one is running
    )
    command = [sys.executable, "-c", program, str(tiny_shards)]
    run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stderr) == (0, "")
