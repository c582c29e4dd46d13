from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sample_sets import age_of
from wds_bone.stream import lookup
from wds_bone.stream.lookup import look_up
from wds_bone.stream.order import Order, shard_of
from wds_bone.stream.plan import BatchGeometry, BatchPlan
from wds_bone.stream.selection import Selection, select_shards


@pytest.fixture(scope="module")
def selection(tiny_shards: Path) -> Selection:
    return select_shards(tiny_shards, split="train")


def geometry_of(selection: Selection, rows: int, world_size: int) -> BatchGeometry:
    num_samples = len(selection.table)
    order = Order("digest", selection.first_sample, 0)
    return BatchGeometry(num_samples, rows * world_size, world_size - 1, world_size, order.sample_at)


@given(rows=st.integers(1, 50), world_size=st.integers(1, 4), at_once=st.integers(1, 100))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_each_row_of_a_request_is_the_sample_of_its_plan(
    selection: Selection, monkeypatch: pytest.MonkeyPatch, rows: int, world_size: int, at_once: int
) -> None:
    monkeypatch.setattr(lookup, "SAMPLES_AT_ONCE", at_once)
    plans = list(geometry_of(selection, rows, world_size).epoch(0))
    requests = list(look_up(plans, selection))
    assert [request.plan for request in requests] == plans
    for plan, request in zip(plans, requests, strict=True):
        num_real, num_padding = len(plan.samples), rows - len(plan.samples)
        numbers = [int(key.removeprefix("hand-")) for key in request.keys[:num_real]]
        assert request.keys == [f"hand-{number}" for number in numbers] + [""] * num_padding
        assert request.labels.shape == (3, rows)
        assert request.labels[0].tolist() == [number % 2 for number in numbers] + [0.0] * num_padding
        assert request.labels[1].tolist() == [age_of(number) for number in numbers] + [0.0] * num_padding
        assert request.labels[2].tolist() == [1.0] * num_real + [0.0] * num_padding
        assert [sample.number for sample in request.images] == plan.samples.tolist()


def test_each_image_is_located_as_the_index_says(selection: Selection) -> None:
    for request in look_up(geometry_of(selection, 8, 1).epoch(0), selection):
        for sample in request.images:
            row = selection.table[sample.number]
            assert sample[2:] == (row["offset"], row["size"], row["crc32"], "png")
            assert selection.first_sample[sample.shard] <= sample.number < selection.first_sample[sample.shard + 1]


def test_plans_are_taken_at_most_one_epoch_ahead(selection: Selection) -> None:
    taken = list[int]()

    def counted() -> Iterator[BatchPlan]:
        for plan in geometry_of(selection, 8, 1).endless(0):
            taken.append(plan.stop)
            yield plan

    next(look_up(counted(), selection))
    assert len(taken) <= len(selection.table) // 8


def test_the_labels_of_a_batch_share_no_memory_with_other_batches(selection: Selection) -> None:
    for request in look_up(geometry_of(selection, 8, 1).epoch(0), selection):
        assert request.labels.base is None
        assert request.labels.flags.c_contiguous


def test_no_sample_is_assigned_to_an_empty_shard() -> None:
    assert shard_of(np.arange(5), np.array([0, 3, 3, 5])).tolist() == [0, 0, 0, 2, 2]
