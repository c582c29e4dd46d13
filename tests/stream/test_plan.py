from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wds_bone.stream.order import Order
from wds_bone.stream.plan import BatchGeometry


@st.composite
def geometries(draw: st.DrawFn) -> list[BatchGeometry]:
    """Return the geometries of all ranks of one run."""
    num_samples, world_size, rows = draw(st.integers(1, 200)), draw(st.integers(1, 6)), draw(st.integers(1, 9))
    buffer = draw(st.none() | st.integers(1, 250))
    sample_at = Order("digest", np.array([0, num_samples]), draw(st.integers(0, 9)), buffer).sample_at
    return [BatchGeometry(num_samples, rows * world_size, rank, world_size, sample_at) for rank in range(world_size)]


@pytest.mark.fault("G1")
@given(geometries(), st.integers(0, 3))
def test_all_ranks_together_deliver_every_sample_once_per_epoch(ranks: list[BatchGeometry], epoch: int) -> None:
    start = epoch * ranks[0].num_samples
    delivered = Counter(sample for rank in ranks for plan in rank.epoch(start) for sample in plan.samples.tolist())
    assert delivered == Counter(range(ranks[0].num_samples))


@pytest.mark.fault("G1")
@given(geometries())
def test_all_ranks_get_the_same_number_of_batches_of_the_same_length(ranks: list[BatchGeometry]) -> None:
    steps = [[len(plan.positions) for plan in rank.epoch(0)] for rank in ranks]
    assert all(step == steps[0] for step in steps)
    assert len(steps[0]) == -(-ranks[0].num_samples // ranks[0].batch_size)


@given(geometries(), st.integers(0, 500))
def test_the_global_batch_does_not_depend_on_the_number_of_ranks(ranks: list[BatchGeometry], start: int) -> None:
    alone = BatchGeometry(ranks[0].num_samples, ranks[0].batch_size, 0, 1, ranks[0].sample_at)
    together = zip(alone.endless(start), *(rank.endless(start) for rank in ranks), strict=True)
    for plan, *parts in islice(together, 4):
        assert np.concatenate([part.samples for part in parts]).tolist() == plan.samples.tolist()
        assert {part.stop for part in parts} == {plan.stop}


@given(geometries(), st.integers(0, 500))
def test_endless_batches_are_full_and_continue_across_epochs(ranks: list[BatchGeometry], start: int) -> None:
    plans = list(islice(ranks[0].endless(start), 5))
    assert all(len(plan.samples) == len(plan.positions) for plan in plans)
    assert [plan.stop for plan in plans] == [start + (step + 1) * ranks[0].batch_size for step in range(5)]


@given(geometries(), st.integers(0, 500))
def test_the_last_batch_of_an_epoch_stops_at_the_end_of_the_epoch(ranks: list[BatchGeometry], start: int) -> None:
    num_samples = ranks[0].num_samples
    stops = [plan.stop for plan in ranks[0].epoch(start)]
    assert stops[-1] == (start // num_samples + 1) * num_samples
