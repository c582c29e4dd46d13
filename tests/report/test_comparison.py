"""Test the comparison of two evaluations."""

import json

import numpy as np
import pytest
from scipy import stats

from wds_bone.errors import WdsBoneError
from wds_bone.inference.predictions import Predictions
from wds_bone.report.comparison import compare

GENERATOR = np.random.default_rng(0)
AGES = GENERATOR.uniform(20, 220, 400)
DIFFICULTY = GENERATOR.normal(0, 10, 400)


def evaluation(errors: np.ndarray, *, rows: np.ndarray | None = None) -> Predictions:
    """Return predictions with errors for the given rows of `AGES`, in their order; by default all."""
    rows = np.arange(len(AGES)) if rows is None else rows
    ages = AGES[rows].astype(np.float32)
    predicted = (AGES[rows] + errors[rows]).astype(np.float32)
    return Predictions([f"k{row:03}" for row in rows], np.zeros(len(rows), np.float32), ages, predicted)


BETTER = evaluation(DIFFICULTY + GENERATOR.normal(0, 1, 400))
WORSE = evaluation(1.1 * DIFFICULTY + GENERATOR.normal(0, 1, 400))


def absolute(predictions: Predictions) -> np.ndarray:
    return np.abs(predictions.predicted_months.astype(np.float64) - predictions.age_months.astype(np.float64))


def test_the_interval_is_that_of_the_paired_bootstrap_of_scipy() -> None:
    found = compare(BETTER, WORSE)
    oracle = stats.bootstrap(
        (absolute(BETTER), absolute(WORSE)),
        lambda ours, theirs, axis: np.mean(ours, axis) - np.mean(theirs, axis),
        n_resamples=2000,
        paired=True,
        method="percentile",
        rng=np.random.Generator(np.random.PCG64(0)),
    )
    assert found["mae_difference_months"] == pytest.approx(absolute(BETTER).mean() - absolute(WORSE).mean())
    np.testing.assert_allclose(found["mae_difference_interval_months"], oracle.confidence_interval, rtol=1e-9)


def test_pairs_show_a_difference_that_is_small_compared_with_the_errors() -> None:
    found = compare(BETTER, WORSE)
    assert found["mae_months"] < found["against_mae_months"]
    assert found["mae_difference_interval_months"][1] < 0
    width = np.ptp(found["mae_difference_interval_months"])
    assert width < 0.25 * 2 * 1.96 * absolute(WORSE).std() / len(AGES) ** 0.5


def test_samples_are_joined_by_key_in_any_order() -> None:
    shuffled = np.random.default_rng(1).permutation(len(AGES))
    errors = (WORSE.predicted_months - WORSE.age_months).astype(np.float64)
    reordered = evaluation(errors, rows=shuffled)
    expected = compare(BETTER, evaluation(errors))
    assert compare(BETTER, reordered) == expected


def test_samples_of_only_one_evaluation_are_counted_and_not_compared() -> None:
    errors = np.linspace(-20, 20, len(AGES))
    found = compare(evaluation(errors, rows=np.arange(300)), evaluation(2 * errors, rows=np.arange(100, 350)))
    assert (found["num_samples"], found["num_only_here"], found["num_only_there"]) == (200, 100, 50)
    assert found["mae_months"] == pytest.approx(np.abs(errors[100:300]).mean(), rel=1e-4)
    assert found["against_mae_months"] == pytest.approx(2 * np.abs(errors[100:300]).mean(), rel=1e-4)


def test_exchanging_the_evaluations_changes_the_sign() -> None:
    first, second = compare(BETTER, WORSE), compare(WORSE, BETTER)
    assert second["mae_difference_months"] == -first["mae_difference_months"]
    low, high = first["mae_difference_interval_months"]
    assert second["mae_difference_interval_months"] == pytest.approx([-high, -low])


def test_an_evaluation_does_not_differ_from_itself() -> None:
    found = compare(BETTER, BETTER)
    assert (found["mae_difference_months"], found["mae_difference_interval_months"]) == (0, [0, 0])


def test_too_few_samples_have_no_interval_and_the_result_is_plain_json() -> None:
    four = evaluation(DIFFICULTY, rows=np.arange(4))
    assert compare(four, WORSE)["mae_difference_interval_months"] is None
    found = compare(BETTER, WORSE)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_evaluations_without_a_common_sample_are_refused() -> None:
    with pytest.raises(WdsBoneError, match="no sample in common"):
        compare(evaluation(DIFFICULTY, rows=np.arange(5)), evaluation(DIFFICULTY, rows=np.arange(5, 9)))


def test_different_true_ages_are_refused_unless_they_are_rounded() -> None:
    rounded = WORSE.age_months.astype(np.float64) / 12
    ages = (np.round(rounded, 2) * 12).astype(np.float32)
    assert compare(BETTER, Predictions(WORSE.key, WORSE.gender, ages, WORSE.predicted_months))["num_samples"] == 400
    ages[7] += 3
    with pytest.raises(WdsBoneError, match="different true ages for 'k007'\n"):
        compare(BETTER, Predictions(WORSE.key, WORSE.gender, ages, WORSE.predicted_months))
