"""Test what the agreement of predicted and true ages means; `test_oracles.py` tests the formulas."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import stats

from wds_bone.report.agreement import _t_quantile, bland_altman, measure_agreement

AGES = np.random.default_rng(0).uniform(20, 220, 500)
NOISE = np.random.default_rng(1).normal(0, 8, 500)
COEFFICIENTS = ("r2", "pearson", "lin_ccc", "icc_2_1")


def test_perfect_predictions_agree_completely() -> None:
    numbers = measure_agreement(AGES, AGES)
    assert [numbers[name] for name in COEFFICIENTS] == pytest.approx([1, 1, 1, 1])
    assert numbers["error_slope"] == 0
    assert numbers["bland_altman"]["low_months"] == numbers["bland_altman"]["high_months"] == 0


def test_a_bias_lowers_all_coefficients_but_the_correlation() -> None:
    unbiased, biased = (measure_agreement(AGES + NOISE + bias, AGES) for bias in (0, 24))
    assert biased["pearson"] == pytest.approx(unbiased["pearson"])
    for name in ("r2", "lin_ccc", "icc_2_1"):
        assert biased[name] < unbiased[name] - 0.05


def test_the_slope_is_negative_if_predictions_are_drawn_towards_the_mean() -> None:
    towards_the_mean = AGES - 0.2 * (AGES - AGES.mean())
    assert measure_agreement(towards_the_mean, AGES)["error_slope"] == pytest.approx(-0.2)


def test_the_limits_contain_95_percent_of_normal_errors() -> None:
    limits = bland_altman(np.random.default_rng(2).normal(3, 7, 100_000))
    assert limits["low_months"] == pytest.approx(3 - 1.96 * 7, abs=0.2)
    assert limits["high_months"] == pytest.approx(3 + 1.96 * 7, abs=0.2)


@pytest.mark.parametrize("n", [15, 100])
def test_95_percent_of_the_intervals_contain_the_true_bias_and_limits(n: int) -> None:
    samples = np.random.default_rng(3).normal(3, 7, (2000, n))
    found = [bland_altman(errors) for errors in samples]
    for name, true in (("bias", 3), ("low", 3 - 1.96 * 7), ("high", 3 + 1.96 * 7)):
        low, high = np.array([limits[f"{name}_interval_months"] for limits in found]).T
        assert np.mean((low < true) & (true < high)) == pytest.approx(0.95, abs=0.02)


def test_the_intervals_of_bland_and_altman_are_those_of_pingouin() -> None:
    """pingouin rounds the factor 1 + 1.96² / 2 of the variance of a limit up to 3, so its intervals are 1.4 % wider."""
    import pingouin  # here, because it takes a second to import

    axes = pingouin.plot_blandaltman(AGES + NOISE, AGES, ax=Figure().add_subplot())
    spans = [[span.get_y(), span.get_y() + span.get_height()] for span in axes.patches]
    limits = bland_altman(NOISE)
    names = ("bias_interval_months", "high_interval_months", "low_interval_months")
    np.testing.assert_allclose([limits[name] for name in names], spans, atol=0.02)


@pytest.mark.parametrize("degrees", [4, 5, 10, 30, 1000])
def test_the_quantile_of_the_t_distribution_is_that_of_scipy(degrees: int) -> None:
    assert _t_quantile(0.975, degrees=degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=5e-4)


@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_samples_determine_only_the_bias(n: int) -> None:
    numbers = measure_agreement(AGES[:n] + NOISE[:n], AGES[:n])
    assert set(numbers.pop("bland_altman").values()) == {None}
    assert set(numbers.values()) == {None}


def test_limits_need_three_samples_and_intervals_five() -> None:
    three, four, five = (bland_altman(NOISE[:n]) for n in (3, 4, 5))
    assert three["low_months"] < three["high_months"]
    assert four["low_interval_months"] is four["bias_interval_months"] is None
    assert five["low_interval_months"][0] < five["low_months"] < five["low_interval_months"][1]


def test_constant_predictions_have_no_correlation_but_an_r2_and_a_slope() -> None:
    constant = np.full(len(AGES), 100.3)
    assert constant.var() > 0, "the mean is not exact in double precision, and still the values are constant"
    numbers = measure_agreement(constant, AGES)
    assert numbers["pearson"] is numbers["lin_ccc"] is numbers["icc_2_1"] is None
    assert numbers["r2"] <= 0
    assert numbers["error_slope"] == pytest.approx(-1)


def test_with_equal_true_ages_there_are_no_coefficients() -> None:
    numbers = measure_agreement(100 + NOISE, np.full(len(NOISE), 100.3))
    assert [numbers[name] for name in (*COEFFICIENTS, "error_slope")] == [None] * 5
