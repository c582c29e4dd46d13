"""Test that batches arrive on a CUDA device as they are on the CPU, however far behind the device is."""

import gc
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.cuda import DEVICE, ON_CUDA
from tests.sample_sets import write_set
from wds_bone import BoneAgeStream
from wds_bone.stream import stream as stream_module
from wds_bone.stream.batch import Batch
from wds_bone.stream.lookup import look_up
from wds_bone.stream.pipeline import batch_pipeline

pytestmark = ON_CUDA
BEHIND_CYCLES = 20_000_000
"""How long the device sleeps in each step: about 10 ms, in which the host would hand out many batches."""


@pytest.fixture(scope="module")
def larger_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 training samples of 320 x 320 pixels: batches are too large for the memory that small tensors share."""
    return write_set(tmp_path_factory.mktemp("larger") / "shards", size=320, train=[30, 30])


def stream_of(shards: Path, device: torch.device | str, *, threads: int = 2) -> BoneAgeStream:
    return BoneAgeStream(shards, split="train", batch_size=16, seed=3, threads=threads, device=device)


def on_cpu(batch: Batch) -> tuple[dict[str, Tensor], list[str]]:
    return batch.to("cpu").tensors(), batch.key


def assert_equal(one: Batch, other: Batch) -> None:
    (first, keys), (second, other_keys) = on_cpu(one), on_cpu(other)
    assert keys == other_keys
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_the_batches_of_two_epochs_equal_those_on_the_cpu_bit_for_bit(larger_shards: Path, threads: int) -> None:
    with stream_of(larger_shards, DEVICE, threads=threads) as stream, stream_of(larger_shards, "cpu") as expected:
        for _ in range(2):
            batches = list(stream)
            assert {tensor.device.type for batch in batches for tensor in batch.tensors().values()} == {DEVICE.type}
            for batch, on_host in zip(batches, expected, strict=True):
                assert_equal(batch, on_host)
        assert_equal(stream[1], expected[1])


@pytest.mark.parametrize("own_stream", [False, True], ids=["default stream", "own stream"])
def test_no_batch_changes_while_the_device_is_behind_the_host(larger_shards: Path, own_stream: bool) -> None:
    """Batches are dropped before the device reads them, and their page-locked memory long before."""
    with stream_of(larger_shards, "cpu") as expected:
        wanted = [digest_of(batch) for batch in islice(expected.endless(), 40)]
    consumer = torch.cuda.stream(torch.cuda.Stream()) if own_stream else nullcontext()  # type: ignore[no-untyped-call]
    found = []
    with stream_of(larger_shards, DEVICE) as stream, consumer:
        for batch in islice(stream.endless(), 40):
            torch.cuda._sleep(BEHIND_CYCLES)  # type: ignore[no-untyped-call]
            found.append(digest_of(batch))
        assert torch.stack(found).tolist() == torch.stack(wanted).tolist()


def digest_of(batch: Batch) -> Tensor:
    """Return numbers that show every change of a batch, on its device, without waiting for it."""
    pixels = batch.image.flatten().long()
    weights = torch.arange(len(pixels), device=pixels.device) % 251 + 1
    return torch.stack([(pixels * weights).sum(), batch.position.sum(), batch.age_months.sum().long()])


def test_batches_are_loaded_into_page_locked_memory(larger_shards: Path) -> None:
    with stream_of(larger_shards, DEVICE) as stream:
        (request,) = look_up([stream._geometry.plan(0, 16)], stream._selection)
        tensors = stream._loader.batch(request).tensors()
        assert {name: tensor.is_pinned() for name, tensor in tensors.items()} == dict.fromkeys(tensors, True)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_a_loop_never_waits_for_a_copy(larger_shards: Path) -> None:
    with stream_of(larger_shards, DEVICE) as stream:
        loop = stream.endless()
        next(loop)
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(8):  # beyond the end of an epoch, where the stream copies its count of wrong weights
                next(loop)
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_no_batch_waits_for_what_the_device_computes_not_even_the_last_one_of_an_epoch(larger_shards: Path) -> None:
    with stream_of(larger_shards, DEVICE) as stream:
        loop, has_waited = stream.endless(), []
        for _ in range(16):  # four epochs
            torch.cuda._sleep(10 * BEHIND_CYCLES)  # type: ignore[no-untyped-call]
            computed = torch.cuda.current_stream().record_event()
            next(loop)
            has_waited.append(computed.query())
            computed.synchronize()
    assert not any(has_waited[8:])  # the first ones allocate memory, which waits too


def test_a_wrong_weight_is_reported_when_the_next_epoch_begins(
    larger_shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **settings: Any) -> Iterator[Any]:
        for plan, batch in batch_pipeline(*args, **settings):
            yield plan, replace(batch, weight=batch.weight * (plan.start != 16))

    monkeypatch.setattr(stream_module, "batch_pipeline", broken)
    with stream_of(larger_shards, DEVICE) as stream:
        loop = stream.endless()
        for _ in range(4):
            next(loop)
        with pytest.raises(RuntimeError, match="up to position 64, the pipeline delivered 16 wrong weights"):
            next(loop)


def test_a_state_that_is_saved_on_the_device_continues_on_the_cpu(larger_shards: Path) -> None:
    with stream_of(larger_shards, DEVICE) as stream, stream_of(larger_shards, "cpu") as other:
        loop = stream.endless()
        for _ in range(5):
            next(loop)
        other.load_state_dict(stream.state_dict())
        assert_equal(next(loop), next(other.endless()))


def test_a_loop_that_is_dropped_gives_its_memory_back(larger_shards: Path) -> None:
    torch.cuda.synchronize()
    gc.collect()
    before = torch.cuda.memory_allocated()
    with stream_of(larger_shards, DEVICE) as stream:
        next(iter(stream))
    torch.cuda.synchronize()
    gc.collect()
    assert torch.cuda.memory_allocated() == before
