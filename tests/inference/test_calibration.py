import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from wds_bone.errors import WdsBoneError
from wds_bone.inference.calibration import Calibration, smallest_count
from wds_bone.inference.predictions import Predictions


def predictions_of(predicted: NDArray[np.floating], ages: NDArray[np.floating]) -> Predictions:
    """Return predictions for samples that are girls and boys in turn."""
    keys = [f"film-{number}" for number in range(len(ages))]
    columns = (np.arange(len(ages)) % 2, ages, predicted)
    return Predictions(keys, *(np.array(column, np.float32) for column in columns))


def drawn(num_samples: int, *, seed: int) -> Predictions:
    """Return predictions whose errors have long tails, a bias that depends on the age, and differ between genders."""
    generator = np.random.default_rng(seed)
    ages = generator.integers(10, 228, num_samples)
    errors = generator.standard_t(3, num_samples) * (6 + 3 * (np.arange(num_samples) % 2))
    return predictions_of(12 + 0.9 * ages + errors, ages)


def with_errors(errors: NDArray[np.floating]) -> Predictions:
    """Return predictions with these absolute errors, for girls and, doubled, for boys."""
    both = np.stack([errors, 2 * errors], 1).ravel()
    return predictions_of(100 + both, np.full(len(both), 100.0))


def covered(calibration: Calibration, predictions: Predictions) -> NDArray[np.bool_]:
    _, interval = calibration.apply(predictions.predicted_months, predictions.gender)
    return (interval[:, 0] <= predictions.age_months) & (predictions.age_months <= interval[:, 1])


@pytest.mark.parametrize(("num_samples", "level", "rank"), [(9, 0.9, 9), (19, 0.9, 18), (99, 0.55, 55), (3, 0.5, 2)])
def test_half_the_width_is_the_error_of_the_rank_in_the_paper(num_samples: int, level: float, rank: int):
    errors = np.random.default_rng(0).permutation(np.arange(1, num_samples + 1)).astype(float)
    genders = Calibration.fit(with_errors(errors), level).genders
    assert (genders["F"].half_width_months, genders["M"].half_width_months) == (rank, 2 * rank)
    assert genders["F"].num_samples == genders["M"].num_samples == num_samples


@given(num_samples=st.integers(9, 200), level=st.sampled_from([0.5, 0.8, 0.9]), seed=st.integers(0, 99))
def test_half_the_width_is_the_corrected_quantile_of_the_errors(num_samples: int, level: float, seed: int):
    """The oracle is the formula of Angelopoulos and Bates (2021), with the quantile of NumPy."""
    predictions = drawn(2 * num_samples, seed=seed)
    errors = np.abs(predictions.predicted_months.astype(float) - predictions.age_months)[::2]
    probability = math.ceil(round((num_samples + 1) * level, 9)) / num_samples - 1e-9  # NumPy rounds it up
    expected = np.quantile(errors, probability, method="inverted_cdf")
    assert Calibration.fit(predictions, level).genders["F"].half_width_months == expected


@pytest.mark.parametrize("correct", [False, True])
@pytest.mark.parametrize("level", [0.8, 0.9])
def test_intervals_contain_further_ages_as_often_as_promised(level: float, correct: bool):
    """49 samples of a gender promise exactly 40 / 50 and 45 / 50 on average over what the intervals are fitted on."""
    further = drawn(2000, seed=999)
    rates = [
        np.mean(covered(Calibration.fit(drawn(98, seed=seed), level, correct=correct), further)) for seed in range(200)
    ]
    assert np.mean(rates) == pytest.approx(level, abs=0.01)


@given(num_samples=st.integers(9, 60), seed=st.integers(0, 999))
def test_the_limits_include_the_ages_at_exactly_half_the_width(num_samples: int, seed: int):
    predictions = drawn(2 * num_samples, seed=seed)
    inside = covered(Calibration.fit(predictions), predictions)
    rank = math.ceil(round((num_samples + 1) * 0.9, 9))
    assert inside[::2].sum() == inside[1::2].sum() == rank


def test_without_a_correction_predictions_are_unchanged():
    predictions = drawn(100, seed=0)
    corrected, interval = Calibration.fit(predictions).apply(predictions.predicted_months, predictions.gender)
    assert corrected.tobytes() == predictions.predicted_months.tobytes()
    assert (corrected.dtype, interval.dtype, interval.shape) == (np.float32, np.float32, (100, 2))


def test_limits_are_never_below_zero():
    calibration = Calibration.fit(with_errors(np.full(9, 20.0)))
    _, interval = calibration.apply(np.float32([-100, 5, 100]), np.float32([0, 0, 0]))
    np.testing.assert_allclose(interval, [[0, 0], [0, 25], [80, 120]], atol=1e-4)


@pytest.mark.parametrize("correct", [False, True])
def test_an_interval_does_not_depend_on_the_other_samples(correct: bool):
    predictions = drawn(50, seed=0)
    calibration = Calibration.fit(predictions, correct=correct)
    whole = calibration.apply(predictions.predicted_months, predictions.gender)
    for number in range(50):
        chosen = slice(number, number + 1)
        part = calibration.apply(predictions.predicted_months[chosen], predictions.gender[chosen])
        assert all(np.array_equal(one, all_[chosen]) for one, all_ in zip(part, whole, strict=True))


def test_a_correction_removes_the_error_of_a_site_for_each_gender():
    ages = np.random.default_rng(0).uniform(20, 220, 400)
    predictions = predictions_of(np.where(np.arange(400) % 2, 10 + 0.8 * ages, 1.1 * ages - 5), ages)
    corrected, interval = Calibration.fit(predictions, correct=True).apply(
        predictions.predicted_months, predictions.gender
    )
    np.testing.assert_allclose(corrected, ages, atol=1e-3)
    assert np.diff(interval).max() < 0.01


@pytest.mark.parametrize("correct", [False, True])
def test_the_calibration_does_not_depend_on_the_order_of_the_samples(correct: bool):
    predictions, order = drawn(400, seed=0), np.random.default_rng(0).permutation(400)
    columns = (predictions.gender, predictions.age_months, predictions.predicted_months)
    shuffled = Predictions([predictions.key[number] for number in order], *(column[order] for column in columns))
    assert Calibration.fit(shuffled, correct=correct) == Calibration.fit(predictions, correct=correct)


def test_errors_of_corrected_predictions_are_those_of_a_line_without_that_sample():
    predictions = drawn(60, seed=3)
    predicted, ages = predictions.predicted_months[::2].astype(float), predictions.age_months[::2].astype(float)
    errors = []
    for number in range(30):
        others = np.arange(30) != number
        line = np.polynomial.Polynomial.fit(predicted[others], ages[others], 1)
        errors.append(abs(ages[number] - line(predicted[number])))
    girls = Calibration.fit(predictions, correct=True).genders["F"]
    assert girls.half_width_months == pytest.approx(sorted(errors)[27], rel=1e-9)


def test_the_uncertainty_of_a_correction_is_that_of_the_mean_of_a_regression():
    means = []
    for seed in range(300):
        predictions = drawn(60, seed=seed)
        girls = Calibration.fit(predictions, correct=True).genders["F"]
        means.append(girls.intercept_months + girls.slope * 111.0 - 110.0)
    assert girls.standard_error_months == pytest.approx(np.std(means), rel=0.4)


@pytest.mark.parametrize(("level", "needed"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99), (0.55, 2)])
def test_too_few_samples_are_refused_and_the_number_in_the_error_is_enough(level: float, needed: int):
    assert smallest_count(level) == needed
    Calibration.fit(drawn(2 * needed, seed=0), level)
    predictions = drawn(2 * needed - 1, seed=0)
    with pytest.raises(WdsBoneError) as caught:
        Calibration.fit(predictions, level)
    assert "too few boys" in caught.value.problem
    assert (caught.value.expected, caught.value.got) == (f"at least {needed} boys", str(needed - 1))


def test_a_gender_without_samples_is_refused():
    predictions = drawn(100, seed=0)
    with pytest.raises(WdsBoneError, match="too few girls"):
        Calibration.fit(replace(predictions, gender=np.ones(100, np.float32)))


@pytest.mark.parametrize("predicted", [[100.0] * 40, [100.0] * 38 + [120.0] * 2, list(range(240, 200, -1))])
def test_predictions_that_do_not_rise_with_the_age_cannot_be_corrected(predicted: list[float]):
    predictions = predictions_of(np.array(predicted), np.arange(60, 100))
    with pytest.raises(WdsBoneError, match="the girls cannot be corrected"):
        Calibration.fit(predictions, correct=True)


@pytest.mark.parametrize("correct", [False, True])
def test_a_calibration_survives_json(correct: bool):
    calibration = Calibration.fit(drawn(50, seed=0), 0.8, correct=correct)
    assert Calibration.from_json(json.loads(json.dumps(calibration.to_json()))) == calibration


@pytest.mark.parametrize("damage", [{"genders": {"F": {}}}, {"level": 0.9}, {"extra": 1}])
def test_a_damaged_calibration_is_not_read(damage: dict[str, object]):
    description = Calibration.fit(drawn(50, seed=0)).to_json()
    damaged = damage if list(damage) == ["level"] else description | damage
    with pytest.raises((KeyError, TypeError)):
        Calibration.from_json(damaged)


def test_the_digest_of_the_samples_depends_on_their_labels_but_not_on_their_order():
    predictions = drawn(50, seed=0)
    digest = Calibration.fit(predictions).samples_sha256
    backward = Predictions(
        predictions.key[::-1],
        *(getattr(predictions, name)[::-1] for name in ("gender", "age_months")),
        np.zeros(50, np.float32),
    )
    assert Calibration.fit(backward).samples_sha256 == digest
    assert Calibration.fit(replace(predictions, age_months=predictions.age_months + 1)).samples_sha256 != digest
