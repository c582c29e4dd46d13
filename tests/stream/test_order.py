from collections import Counter
from itertools import permutations
from math import factorial, sqrt

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wds_bone.stream import order as order_module
from wds_bone.stream.order import MAX_POSITION, Order, shard_of

COUNTS = st.integers(1, 400)
BUFFERS = st.none() | st.integers(1, 500)
SHARDS = st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(any)  # the samples of each shard, often unequal
WINDOWS = st.integers(1, 13)


def order_of(
    *counts: int, digest: str = "digest", seed: int | None = 0, buffer: int | None = None, windows: int | None = None
) -> Order:
    return Order(digest, np.cumsum([0, *counts]), seed, shuffle_buffer=buffer, shuffle_windows=windows)


def epoch_of(epoch: int, order: Order) -> np.ndarray:
    return order.sample_at(np.arange(epoch * order.num_samples, (epoch + 1) * order.num_samples))


@given(COUNTS, st.integers(0, 2**40), BUFFERS)
def test_every_epoch_is_a_permutation(num_samples: int, epoch: int, buffer: int | None) -> None:
    assert sorted(epoch_of(epoch, order_of(num_samples, buffer=buffer))) == list(range(num_samples))


@given(COUNTS, st.integers(0, 50), st.integers(1, 500))
def test_a_sample_moves_by_fewer_positions_than_the_buffer_has(num_samples: int, epoch: int, buffer: int) -> None:
    assert np.abs(epoch_of(epoch, order_of(num_samples, buffer=buffer)) - np.arange(num_samples)).max() < buffer


@given(st.integers(20, 400), BUFFERS, st.lists(st.integers(0, 500), min_size=1, max_size=30))
def test_a_position_can_be_computed_without_the_ones_before_it(
    num_samples: int, buffer: int | None, positions: list[int]
) -> None:
    order = order_of(num_samples, buffer=buffer)
    whole = np.concatenate([epoch_of(epoch, order) for epoch in range(500 // num_samples + 1)])
    assert order.sample_at(np.array(positions)).tolist() == whole[positions].tolist()


def test_a_buffer_of_a_whole_epoch_has_the_same_effect_as_none() -> None:
    assert (epoch_of(3, order_of(100, buffer=100)) == epoch_of(3, order_of(100))).all()
    assert order_of(100, buffer=100).as_json() == order_of(100).as_json()


def test_without_a_seed_the_order_is_that_of_the_shards_in_every_epoch() -> None:
    assert epoch_of(7, order_of(50, seed=None)).tolist() == list(range(50))


def test_seed_shards_and_epoch_each_change_the_order() -> None:
    orders = [epoch_of(0, order_of(100)), epoch_of(1, order_of(100)), epoch_of(0, order_of(100, seed=1))]
    orders.append(epoch_of(0, order_of(100, digest="other")))
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
    assert order_of(num_samples, buffer=buffer).sample_at(positions).tolist() == golden


@pytest.mark.parametrize("num_samples", [2, 6, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 4, 5))])
def test_all_permutations_of_a_small_set_are_equally_likely(num_samples: int) -> None:
    num_epochs = 1500
    counts = Counter(tuple(epoch_of(epoch, order_of(num_samples)).tolist()) for epoch in range(num_epochs))
    degrees_of_freedom = factorial(num_samples) - 1
    expected = num_epochs / (degrees_of_freedom + 1)
    chi_squared = sum((counts[order] - expected) ** 2 / expected for order in permutations(range(num_samples)))
    assert chi_squared < degrees_of_freedom + 4 * sqrt(2 * degrees_of_freedom)


def test_batches_of_sorted_labels_vary_like_random_batches() -> None:
    num_samples, batch_size, labels = 12_611, 64, np.arange(12_611.0)
    num_batches = num_samples // batch_size
    expected = labels.var() / batch_size * (num_samples - batch_size) / (num_samples - 1)
    ratios = [
        labels[epoch_of(epoch, order_of(num_samples))[: num_batches * batch_size]]
        .reshape(num_batches, -1)
        .mean(1)
        .var()
        / expected
        for epoch in range(10)
    ]
    assert 0.9 < np.mean(ratios) < 1.1


def test_neighbors_do_not_stay_neighbors() -> None:
    order = epoch_of(0, order_of(10_000))
    assert np.mean(np.abs(np.diff(order)) == 1) < 0.002


@given(SHARDS, WINDOWS, st.integers(0, 2**40))
def test_every_epoch_in_windows_is_a_permutation(counts: list[int], windows: int, epoch: int) -> None:
    assert sorted(epoch_of(epoch, order_of(*counts, windows=windows))) == list(range(sum(counts)))


@given(SHARDS, WINDOWS, st.integers(0, 50))
def test_no_more_shards_than_a_window_has_are_needed_at_once(counts: list[int], windows: int, epoch: int) -> None:
    order = order_of(*counts, windows=windows)
    shards = shard_of(epoch_of(epoch, order), order.first_sample)
    first = {shard: index for index, shard in reversed(list(enumerate(shards.tolist())))}
    last = {shard: index for index, shard in enumerate(shards.tolist())}
    for index in range(len(shards)):
        assert sum(first[shard] <= index <= last[shard] for shard in first) <= windows


@given(SHARDS, WINDOWS, st.lists(st.integers(0, 99), min_size=1, max_size=9))
def test_a_position_in_windows_can_be_computed_without_the_ones_before_it(
    counts: list[int], windows: int, positions: list[int]
) -> None:
    order = order_of(*counts, windows=windows)
    whole = order.sample_at(np.arange(100))
    assert [order.sample_at(np.array([position])).item() for position in positions] == whole[positions].tolist()


def test_a_window_of_all_shards_has_the_same_effect_as_none() -> None:
    counts = (7, 0, 9, 4)
    for windows in (4, 5):
        order = order_of(*counts, windows=windows)
        assert (epoch_of(3, order) == epoch_of(3, order_of(*counts))).all()
        assert order.as_json() == order_of(*counts).as_json()


def test_the_order_of_the_shards_changes_from_epoch_to_epoch() -> None:
    order = order_of(*[10] * 6, windows=2)
    shards = [shard_of(epoch_of(epoch, order), order.first_sample) for epoch in range(60)]
    together = {frozenset(set(epoch[:20].tolist())) for epoch in shards}
    assert len(together) == 15  # every pair of shards was the first window of an epoch


@pytest.mark.parametrize(
    ("counts", "windows", "num_orders"),
    [
        ([2, 2], 1, 8),
        pytest.param([1, 1, 1, 1], 2, 24, marks=pytest.mark.slow),
        pytest.param([2, 2, 2], 2, 144, marks=pytest.mark.slow),
    ],
)
def test_all_orders_that_windows_allow_are_equally_likely(counts: list[int], windows: int, num_orders: int) -> None:
    order, num_epochs = order_of(*counts, windows=windows), 20 * num_orders
    seen = Counter(tuple(epoch_of(epoch, order).tolist()) for epoch in range(num_epochs))
    assert len(seen) == num_orders
    expected = num_epochs / num_orders
    chi_squared = sum((count - expected) ** 2 / expected for count in seen.values())
    assert chi_squared < num_orders - 1 + 4 * sqrt(2 * (num_orders - 1))


@pytest.mark.parametrize(
    ("counts", "golden"),
    [
        ((4, 3, 5, 2), [2, 0, 3, 9, 1, 8, 10, 11, 7, 4, 5, 12, 6, 13]),
        ((1_000_000,) * 10, [114516, 853237, 7803748, 7601360, 734951]),
    ],
)
def test_the_order_in_windows_never_changes_between_versions(counts: tuple[int, ...], golden: list[int]) -> None:
    # The same rule as above: these lists may change only together with STATE_VERSION.
    order = order_of(*counts, windows=2)
    positions = np.arange(order.num_samples, order.num_samples + len(golden))
    assert order.sample_at(positions).tolist() == golden


@given(
    SHARDS, WINDOWS | st.none(), BUFFERS, st.sampled_from([0, None]), st.integers(0, 600), st.sampled_from([1, 8, 64])
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_next_use_of_a_shard_is_exact_for_a_while_and_never_too_late(
    monkeypatch: pytest.MonkeyPatch,
    counts: list[int],
    windows: int | None,
    buffer: int | None,
    seed: int | None,
    position: int,
    look_ahead: int,
) -> None:
    monkeypatch.setattr(order_module, "LOOK_AHEAD", look_ahead)
    order = order_of(
        *counts, seed=seed, buffer=None if windows else buffer, windows=windows if seed is not None else None
    )
    num_samples, uses = order.num_samples, order.next_use(position).tolist()
    shards = shard_of(order.sample_at(np.arange(position, position + 3 * num_samples)), order.first_sample).tolist()
    for shard, count in enumerate(counts):
        if not count:
            assert uses[shard] == MAX_POSITION
            continue
        true = position + shards.index(shard)
        if true < position + min(look_ahead, 2 * num_samples):
            assert uses[shard] == true
        else:
            assert position + look_ahead <= uses[shard] <= true


def test_far_shards_are_needed_in_the_order_of_their_windows() -> None:
    order = order_of(*[20_000] * 8, windows=2)
    assert order.num_samples > 2 * order_module.LOOK_AHEAD
    shards = shard_of(epoch_of(0, order), order.first_sample)
    uses = order.next_use(0)
    starts = [int(np.flatnonzero(shards == shard)[0]) // 40_000 * 40_000 for shard in range(8)]
    assert (uses // 40_000 * 40_000).tolist() == starts
