from collections import Counter
from itertools import permutations
from math import factorial, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wds_bone.stream.order import order_key, sample_at

KEY = order_key("digest", 0)
COUNTS = st.integers(1, 400)
BUFFERS = st.none() | st.integers(1, 500)


def epoch_of(epoch: int, num_samples: int, *, key: bytes | None = KEY, buffer: int | None = None) -> np.ndarray:
    return sample_at(np.arange(epoch * num_samples, (epoch + 1) * num_samples), num_samples, key=key, buffer=buffer)


@given(COUNTS, st.integers(0, 2**40), BUFFERS)
def test_every_epoch_is_a_permutation(num_samples: int, epoch: int, buffer: int | None) -> None:
    assert sorted(epoch_of(epoch, num_samples, buffer=buffer)) == list(range(num_samples))


@given(COUNTS, st.integers(0, 50), st.integers(1, 500))
def test_a_sample_moves_by_fewer_positions_than_the_buffer_has(num_samples: int, epoch: int, buffer: int) -> None:
    assert np.abs(epoch_of(epoch, num_samples, buffer=buffer) - np.arange(num_samples)).max() < buffer


@given(st.integers(20, 400), BUFFERS, st.lists(st.integers(0, 500), min_size=1, max_size=30))
def test_a_position_can_be_computed_without_the_ones_before_it(
    num_samples: int, buffer: int | None, positions: list[int]
) -> None:
    whole = np.concatenate([epoch_of(epoch, num_samples, buffer=buffer) for epoch in range(500 // num_samples + 1)])
    here = sample_at(np.array(positions), num_samples, key=KEY, buffer=buffer)
    assert here.tolist() == whole[positions].tolist()


def test_a_buffer_of_a_whole_epoch_has_the_same_effect_as_none() -> None:
    assert (epoch_of(3, 100, buffer=100) == epoch_of(3, 100)).all()


def test_without_a_key_the_order_is_that_of_the_shards_in_every_epoch() -> None:
    assert epoch_of(7, 50, key=None).tolist() == list(range(50))


def test_seed_shards_and_epoch_each_change_the_order() -> None:
    orders = [epoch_of(0, 100), epoch_of(1, 100), epoch_of(0, 100, key=order_key("digest", 1))]
    orders.append(epoch_of(0, 100, key=order_key("other", 0)))
    assert len({tuple(order) for order in orders}) == 4


@pytest.mark.parametrize(
    ("num_samples", "buffer", "golden"),
    [
        (10, None, [7, 5, 8, 9, 6, 1, 3, 4, 0, 2]),
        (10, 4, [0, 3, 4, 1, 2, 5, 7, 8, 6, 9]),
        (10_000_000, None, [7289984, 2525978, 6230456, 3965550, 7000849]),
    ],
)
def test_the_order_never_changes_between_versions(num_samples: int, buffer: int | None, golden: list[int]) -> None:
    # A run that is resumed after an upgrade must continue in the same order. These lists may change only together with
    # STATE_VERSION, so that older states are refused.
    positions = np.arange(num_samples, num_samples + len(golden))
    assert sample_at(positions, num_samples, key=KEY, buffer=buffer).tolist() == golden


@pytest.mark.parametrize("num_samples", [2, 6, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 4, 5))])
def test_all_permutations_of_a_small_set_are_equally_likely(num_samples: int) -> None:
    num_epochs = 1500
    counts = Counter(tuple(epoch_of(epoch, num_samples).tolist()) for epoch in range(num_epochs))
    degrees_of_freedom = factorial(num_samples) - 1
    expected = num_epochs / (degrees_of_freedom + 1)
    chi_squared = sum((counts[order] - expected) ** 2 / expected for order in permutations(range(num_samples)))
    assert chi_squared < degrees_of_freedom + 4 * sqrt(2 * degrees_of_freedom)


def test_batches_of_sorted_labels_vary_like_random_batches() -> None:
    num_samples, batch_size, labels = 12_611, 64, np.arange(12_611.0)
    num_batches = num_samples // batch_size
    expected = labels.var() / batch_size * (num_samples - batch_size) / (num_samples - 1)
    ratios = [
        labels[epoch_of(epoch, num_samples)[: num_batches * batch_size]].reshape(num_batches, -1).mean(1).var()
        / expected
        for epoch in range(10)
    ]
    assert 0.9 < np.mean(ratios) < 1.1


def test_neighbors_do_not_stay_neighbors() -> None:
    order = epoch_of(0, 10_000)
    assert np.mean(np.abs(np.diff(order)) == 1) < 0.002
