"""Test the intervals of means, also against SciPy."""

import tracemalloc

import numpy as np
import pytest
from scipy import stats

from wds_bone.inference import bootstrap
from wds_bone.inference.bootstrap import bootstrap_interval, resampled_means

ERRORS = np.random.default_rng(0).exponential(12, 4000)


@pytest.mark.parametrize("num_values", [5, 200, 1425])
def test_the_interval_is_the_percentile_interval_of_scipy(num_values: int) -> None:
    values = ERRORS[:num_values]
    oracle = stats.bootstrap(
        (values,), np.mean, n_resamples=2000, method="percentile", rng=np.random.Generator(np.random.PCG64(0))
    )
    np.testing.assert_allclose(bootstrap_interval(values), oracle.confidence_interval, rtol=1e-12)


def test_the_interval_contains_the_mean_and_shrinks_with_the_square_root_of_the_sample_size() -> None:
    few, many = bootstrap_interval(ERRORS[:40]), bootstrap_interval(ERRORS)
    assert many[0] < ERRORS.mean() < many[1]
    assert (few[1] - few[0]) / (many[1] - many[0]) == pytest.approx(10, rel=0.4)


def test_95_percent_of_the_intervals_contain_the_mean_of_the_population() -> None:
    samples = np.random.default_rng(1).normal(8, 3, (400, 100))
    intervals = np.array([bootstrap_interval(sample, seed=seed) for seed, sample in enumerate(samples)])
    assert np.mean((intervals[:, 0] < 8) & (intervals[:, 1] > 8)) == pytest.approx(0.95, abs=0.03)


def test_the_interval_depends_on_the_values_and_the_seed_alone() -> None:
    assert bootstrap_interval(ERRORS) == bootstrap_interval(ERRORS)
    assert bootstrap_interval(ERRORS) != bootstrap_interval(ERRORS, seed=1)


@pytest.mark.parametrize("num_chunk_values", [1, 1000, 10**6])
def test_the_resamples_do_not_depend_on_how_many_are_drawn_at_once(
    num_chunk_values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = resampled_means(ERRORS[:300])
    monkeypatch.setattr(bootstrap, "_NUM_CHUNK_VALUES", num_chunk_values)
    np.testing.assert_array_equal(resampled_means(ERRORS[:300]), expected)


def test_the_memory_does_not_grow_with_the_number_of_resamples() -> None:
    tracemalloc.start()
    bootstrap_interval(ERRORS)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 2000 * len(ERRORS) * 8 / 5
