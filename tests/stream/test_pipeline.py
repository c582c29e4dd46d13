"""The stages of the pipeline, separately and together, and what happens when one of them fails to deliver."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from webdataset import DataPipeline

from wds_bone import BoneAgeStream
from wds_bone.storage.local import LocalStorage
from wds_bone.stream import stream as stream_module
from wds_bone.stream.device import Planned, to_device
from wds_bone.stream.load import Loader
from wds_bone.stream.lookup import look_up
from wds_bone.stream.memory import PixelMemory
from wds_bone.stream.order import Order
from wds_bone.stream.pipeline import Delivery, batch_pipeline
from wds_bone.stream.plan import BatchGeometry
from wds_bone.stream.reader import SampleReader
from wds_bone.stream.selection import Selection, select_shards

CPU = torch.device("cpu")
ROWS = 8


@pytest.fixture(scope="module")
def selection(tiny_shards: Path) -> Selection:
    return select_shards(tiny_shards, split="train")


@pytest.fixture
def loader(selection: Selection) -> Iterator[Loader]:
    with closing(LocalStorage(selection.paths)) as storage:
        yield Loader(SampleReader(selection, storage), PixelMemory(ROWS * 16 * 16))


def geometry_of(selection: Selection) -> BatchGeometry:
    order = Order(selection.order_digest, selection.first_sample, 0)
    return BatchGeometry(selection.num_samples, ROWS, 0, 1, order.sample_at)


def test_the_pipeline_is_a_webdataset_pipeline_of_four_stages(selection: Selection, loader: Loader):
    plan = partial(geometry_of(selection).epoch, 0)
    pipeline = batch_pipeline(plan, selection, loader, threads=2, device=CPU)
    assert isinstance(pipeline, DataPipeline)
    assert len(pipeline.pipeline) == 4
    keys = [key for _, batch in pipeline for key in batch.key if key]
    assert sorted(keys) == sorted(selection.keys())


def test_running_the_stages_separately_gives_the_same_batches_as_the_pipeline(selection: Selection, loader: Loader):
    geometry = geometry_of(selection)
    plans = list(geometry.epoch(0))
    requests = list(look_up(plans, selection))
    loaded = list(loader.batches(requests, threads=2))
    moved = list(to_device(loaded, CPU))
    together = list(batch_pipeline(partial(geometry.epoch, 0), selection, loader, threads=1, device=CPU))
    for (plan, batch), (other_plan, other) in zip(moved, together, strict=True):
        assert (plan.start, plan.stop, batch.key) == (other_plan.start, other_plan.stop, other.key)
        assert torch.equal(batch.image, other.image)


def test_each_batch_is_delivered_with_its_plan(selection: Selection, loader: Loader):
    plan = partial(geometry_of(selection).endless, 16)
    pipeline = batch_pipeline(plan, selection, loader, threads=2, device=CPU)
    for plan, batch in islice(pipeline, 7):
        assert batch.position.tolist() == plan.positions.tolist() == list(range(plan.start, plan.stop))
        assert batch.key == selection.keys(plan.samples)


def with_keys(pair: Planned, change: Callable[[list[str]], list[str]]) -> Planned:
    return pair[0], replace(pair[1], key=change(pair[1].key))


def repeat_first(keys: list[str]) -> list[str]:
    return [*keys[:3], keys[0], *keys[4:]]


def swap_last(keys: list[str]) -> list[str]:
    return [*keys[:-2], keys[-1], keys[-2]]


def with_weight(pair: Planned, row: int, weight: float) -> Planned:
    changed = pair[1].weight.clone()
    changed[row] = weight
    return pair[0], replace(pair[1], weight=changed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda pairs: pairs[:2] + pairs[3:], "delivered"),
        (lambda pairs: pairs[:2] + pairs[1:], "delivered"),
        (lambda pairs: [pairs[1], pairs[0], *pairs[2:]], "delivered"),
        (lambda pairs: [(pairs[0][0], pairs[1][1]), *pairs[1:]], "delivered"),
        (lambda pairs: pairs[:-1], "ended at position 32"),
        (lambda pairs: [], "ended at position 0"),
        (lambda pairs: [*pairs, pairs[-1]], "continued after the end"),
        (lambda pairs: [*pairs[:-1], with_keys(pairs[-1], repeat_first)], "delivered"),
        (lambda pairs: [*pairs[:-1], with_keys(pairs[-1], swap_last)], "delivered"),
        (lambda pairs: [with_keys(pairs[0], lambda keys: keys[:-1]), *pairs[1:]], "delivered"),
        (lambda pairs: [*pairs[:2], with_weight(pairs[2], 3, 0.0), *pairs[3:]], "1 wrong weights"),
        (lambda pairs: [*pairs[:-1], with_weight(pairs[-1], 7, 0.5)], "1 wrong weights"),
    ],
    ids=[
        "batch lost",
        "batch repeated",
        "batches reordered",
        "batches swapped",
        "ended early",
        "nothing",
        "continued",
        "sample repeated",
        "samples reordered",
        "row lost",
        "weight 0",
        "weight a half",
    ],
)
@pytest.mark.parametrize("is_endless", [False, True])
def test_a_stage_that_loses_repeats_or_reorders_batches_or_samples_is_detected(
    change: Callable[[list[Any]], list[Any]],
    message: str,
    is_endless: bool,
    tiny_shards: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    def broken(*args: Any, **settings: Any) -> Iterator[Any]:
        yield from change(list(islice(batch_pipeline(*args, **settings), 5)))

    monkeypatch.setattr(stream_module, "batch_pipeline", broken)
    with (
        BoneAgeStream(tiny_shards, split="train", batch_size=ROWS, threads=1) as stream,
        pytest.raises(RuntimeError, match="delivered|ended" if is_endless else message),
    ):
        list(islice(stream.endless(), 6) if is_endless else stream)


@pytest.fixture
def deferred(tiny_shards: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BoneAgeStream]:
    """A stream that counts wrong weights as on a device; that of the sample at position 19 is wrong."""

    def broken(*args: Any, **settings: Any) -> Iterator[Any]:
        for plan, batch in batch_pipeline(*args, **settings):
            yield with_weight((plan, batch), 3, 0.0) if plan.start == 16 else (plan, batch)

    monkeypatch.setattr(stream_module, "batch_pipeline", broken)
    monkeypatch.setattr(stream_module, "Delivery", lambda selection, **_: Delivery(selection, is_deferred=True))
    with BoneAgeStream(tiny_shards, split="train", batch_size=ROWS, threads=1) as stream:
        yield stream


WRONG = "up to position {}, the pipeline delivered 1 wrong weights"


def test_on_a_device_a_wrong_weight_is_reported_when_the_next_epoch_begins(deferred: BoneAgeStream):
    loop = deferred.endless()
    for _ in range(5):
        next(loop)
    with pytest.raises(RuntimeError, match=WRONG.format(40)):
        next(loop)
    deferred.close()  # an error is raised once


def test_on_a_device_a_wrong_weight_is_reported_when_the_loop_over_an_epoch_ends(deferred: BoneAgeStream):
    with pytest.raises(RuntimeError, match=WRONG.format(40)):
        list(deferred)


def test_on_a_device_no_state_is_saved_after_an_epoch_with_a_wrong_weight(deferred: BoneAgeStream):
    list(islice(deferred.endless(), 5))
    with pytest.raises(RuntimeError, match=WRONG.format(40)):
        deferred.state_dict()


@pytest.mark.parametrize("num_batches", [3, 4, 5])
@pytest.mark.parametrize(
    "end",
    [
        lambda stream: stream.close(),
        lambda stream: stream.__exit__(None, None, None),
        lambda stream: stream.set_epoch(1),
        lambda stream: next(iter(stream)),
        lambda stream: next(stream.endless()),
    ],
    ids=["closed", "left", "moved", "another loop", "another endless loop"],
)
def test_on_a_device_a_wrong_weight_is_reported_however_a_loop_is_given_up(
    end: Callable[[BoneAgeStream], object], num_batches: int, deferred: BoneAgeStream
):
    loop = deferred.endless()
    for _ in range(num_batches):
        next(loop)
    with pytest.raises(RuntimeError, match=WRONG.format(8 * num_batches)):
        end(deferred)
    deferred.close()


def test_an_error_in_the_loop_is_not_replaced_by_that_of_a_wrong_weight(deferred: BoneAgeStream):
    quotients = (1 / (24 - int(batch.position[0])) for batch in deferred)
    with pytest.raises(ZeroDivisionError), deferred:
        list(quotients)
    with pytest.raises(RuntimeError, match=WRONG.format(32)):
        deferred.close()


def test_on_a_device_right_weights_are_no_error(tiny_shards: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stream_module, "Delivery", lambda selection, **_: Delivery(selection, is_deferred=True))
    with BoneAgeStream(tiny_shards, split="train", batch_size=16, threads=1) as stream:
        assert [len(list(stream)) for _ in range(2)] == [3, 3]
        assert stream.state_dict() is not None
        assert len(list(islice(stream.endless(), 7))) == 7
