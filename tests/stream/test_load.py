import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.threads import assert_threads_end
from wds_bone import BoneAgeStream
from wds_bone.errors import ConfigError, ShardError
from wds_bone.storage.local import LocalStorage
from wds_bone.stream.load import BATCHES_AHEAD, MAX_SAMPLES_PER_TASK, Loader, Outcome, _Watch, samples_per_task
from wds_bone.stream.lookup import Request, look_up
from wds_bone.stream.memory import PixelMemory
from wds_bone.stream.order import Order
from wds_bone.stream.plan import BatchGeometry
from wds_bone.stream.reader import SampleReader
from wds_bone.stream.selection import Selection, select_shards

ROWS = 8
FAULT = pytest.mark.fault("D8")


@given(threads=st.integers(1, 128), rows=st.integers(1, 1024))
def test_tasks_are_small_enough_to_keep_every_thread_busy(threads: int, rows: int) -> None:
    step = samples_per_task(rows, threads=threads)
    assert 1 <= step <= MAX_SAMPLES_PER_TASK
    assert BATCHES_AHEAD * len(range(0, rows, step)) >= min(threads, BATCHES_AHEAD * rows)


def test_tasks_are_done_when_the_last_one_is() -> None:
    outcome, seconds = Outcome(2), 0.05
    outcome.report(None)
    with pytest.raises(TimeoutError):
        outcome.wait(_Watch(), stall_seconds=seconds)
    outcome.report(None)
    outcome.wait(_Watch(), stall_seconds=seconds)
    Outcome(0).wait(_Watch(), stall_seconds=seconds)


@FAULT
def test_an_error_is_raised_while_other_tasks_of_the_batch_are_still_running() -> None:
    outcome = Outcome(2)
    outcome.report(ShardError("damaged", do="fix it"))
    with pytest.raises(ShardError, match="damaged"):
        outcome.wait(_Watch(), stall_seconds=0.05)


def test_reading_that_makes_progress_is_not_a_stall_however_long_it_takes() -> None:
    outcome, watch, ended = Outcome(1), _Watch(), threading.Event()

    def read_slowly() -> None:
        for number in range(12):  # twice as long as the stall timeout
            watch.reading[0] = number
            ended.wait(0.1)
        outcome.report(None)

    thread = threading.Thread(target=read_slowly)
    thread.start()
    outcome.wait(watch, stall_seconds=0.6)
    thread.join(10)


class PlantedStorage(LocalStorage):
    """A storage whose reads of one shard can be made to hang or to fail."""

    error: Exception | None = None

    def __init__(self, paths: tuple[Path, ...]) -> None:
        super().__init__(paths)
        self.gate = threading.Event()
        self.gate.set()

    def read(self, *args, **settings) -> None:  # type: ignore[no-untyped-def]
        if not self.gate.is_set():
            self.gate.wait(60)
        if self.error:
            raise self.error
        super().read(*args, **settings)


@pytest.fixture
def selection(tiny_shards: Path) -> Selection:
    return select_shards(tiny_shards, split="train")


@pytest.fixture
def storage(selection: Selection) -> Iterator[PlantedStorage]:
    with closing(PlantedStorage(selection.paths)) as storage:
        yield storage
        storage.gate.set()


@pytest.fixture
def loader(selection: Selection, storage: PlantedStorage) -> Loader:
    return Loader(SampleReader(selection, storage), PixelMemory(ROWS * 16 * 16))


def requests_of(selection: Selection) -> list[Request]:
    order = Order(selection.order_digest, selection.first_sample, 0)
    return list(look_up(BatchGeometry(selection.num_samples, ROWS, 0, 1, order.sample_at).epoch(0), selection))


@FAULT
@pytest.mark.parametrize("error", [ShardError("a.tar: sample 'x' is damaged", do="fetch it"), MemoryError("no")])
def test_an_error_in_a_decoding_thread_is_raised_in_the_loop_and_leaves_no_thread(
    error: Exception, tiny_shards: Path
) -> None:
    before = threading.active_count()
    with BoneAgeStream(tiny_shards, split="train", batch_size=ROWS, threads=2) as stream:
        storage = PlantedStorage(stream._selection.paths)
        stream._loader.reader.storage = storage
        loop = iter(stream)
        next(loop)
        storage.error = error
        with pytest.raises(type(error), match=str(error).splitlines()[0]):
            list(loop)
        assert_threads_end(before)


@FAULT
def test_a_thread_that_is_stuck_is_an_error_that_names_shard_and_sample(
    selection: Selection, storage: PlantedStorage, loader: Loader
) -> None:
    before, loader.stall_seconds = threading.active_count(), 0.2
    storage.gate.clear()
    with pytest.raises(ShardError, match=r"(?s)train-00000\d.tar: sample 'hand-\d+': reading has stalled.*0.2 seconds"):
        next(loader.batches(requests_of(selection), threads=2))
    storage.gate.set()
    loader.stop()
    assert_threads_end(before)


def test_a_loop_that_was_stopped_raises_an_error_instead_of_an_empty_batch(
    selection: Selection, loader: Loader
) -> None:
    first = loader.batches(requests_of(selection), threads=1)
    next(first)
    second = loader.batches(requests_of(selection), threads=1)
    assert next(second)[0].start == 0
    with pytest.raises(ConfigError, match="the loop was stopped"):
        list(first)
    assert len(list(second)) == 4


@FAULT
def test_a_loop_that_is_dropped_leaves_no_thread_and_reads_no_further(
    selection: Selection, storage: PlantedStorage, loader: Loader
) -> None:
    before = threading.active_count()
    loop = loader.batches(requests_of(selection), threads=1)
    next(loop)
    storage.gate.clear()
    del loop
    storage.gate.set()
    assert_threads_end(before)
    assert len(list(islice(loader.batches(requests_of(selection), threads=2), 3))) == 3


LOOP_WITH_SLOW_READS = """
import sys, time
from wds_bone import BoneAgeStream

with BoneAgeStream(sys.argv[1], split="train", batch_size=4, threads=2) as stream:
    stream._loader.stall_seconds = 1.5
    real = stream._storage.read
    def read(*args, **settings):
        time.sleep(0.6)
        real(*args, **settings)
    stream._storage.read = read
    print("open", flush=True)
    print(sum(int(batch.weight.sum()) for batch in stream))
"""


@pytest.mark.slow
@pytest.mark.fault("E8")
def test_a_process_that_was_stopped_for_longer_than_the_stall_timeout_continues(tiny_shards: Path) -> None:
    command = [sys.executable, "-c", LOOP_WITH_SLOW_READS.replace('"train"', '"val"'), str(tiny_shards)]
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "open\n"
            for _ in range(2):
                time.sleep(0.3)
                process.send_signal(signal.SIGSTOP)
                time.sleep(2)  # the pause, longer than the stall timeout
                process.send_signal(signal.SIGCONT)
            out, error = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, out, error) == (0, "10\n", "")
