import json

import numpy as np
import pytest

from wds_bone.inference.predictions import Predictions
from wds_bone.report.metrics import error_metrics, summarize


def predictions_of(rows: list[tuple[str, float, float]]) -> Predictions:
    """Return predictions of (gender, age, error) rows."""
    genders, ages, errors = zip(*rows, strict=True)
    male = np.array([gender == "M" for gender in genders], np.float32)
    age_months = np.array(ages, np.float32)
    return Predictions([f"k{i}" for i in range(len(rows))], male, age_months, age_months + np.array(errors, np.float32))


EIGHT = predictions_of(
    [
        ("F", 10, 6),
        ("F", 30, -12),
        ("F", 23.5, 24),
        ("M", 24, -24.5),
        ("M", 216, 0),
        ("M", 228, 1),
        ("M", 228.5, -2),
        ("F", 180, 3),
    ]
)
BANDS = ("0-2", "2-5", "5-10", "10-12", "12-15", "15-19", "over 19")


def test_the_metrics_equal_those_computed_by_hand() -> None:
    numbers = summarize(EIGHT)["all"]
    assert numbers["num_samples"] == 8
    assert numbers["mae_months"] == pytest.approx(72.5 / 8)
    assert numbers["bias_months"] == pytest.approx(-4.5 / 8)
    assert numbers["rmse_months"] == pytest.approx(((36 + 144 + 576 + 24.5**2 + 0 + 1 + 4 + 9) / 8) ** 0.5)
    assert numbers["median_absolute_error_months"] == pytest.approx(4.5)
    assert [numbers[f"within_{months}_months"] for months in (6, 12, 18, 24)] == [5 / 8, 6 / 8, 6 / 8, 7 / 8]
    assert numbers["p90_absolute_error_months"] == pytest.approx(24 + 0.3 * 0.5)
    assert numbers["max_absolute_error_months"] == 24.5
    low, high = numbers["mae_interval_months"]
    assert 0 < low < numbers["mae_months"] < high < 24.5


def test_age_bands_include_their_lower_limit_and_the_last_one_also_its_upper_limit() -> None:
    bands = summarize(EIGHT)["age_band_years"]
    assert {name: numbers["num_samples"] for name, numbers in bands.items()} == {
        "0-2": 2,
        "2-5": 2,
        "15-19": 3,
        "over 19": 1,
    }


@pytest.mark.parametrize("first_month", [24, 60, 120, 144, 180])
def test_a_limit_between_two_bands_belongs_to_the_older_one(first_month: int) -> None:
    before = float(np.nextafter(np.float32(first_month), np.float32(0)))
    younger, older = summarize(predictions_of([("F", before, 0), ("F", first_month, 0)]))["age_band_years"]
    assert BANDS.index(older) == BANDS.index(younger) + 1


def test_every_sample_counts_in_one_gender_one_age_band_and_one_of_both() -> None:
    generator = np.random.default_rng(0)
    rows = [("FM"[i % 3 == 0], generator.uniform(0, 240), generator.normal(0, 10)) for i in range(300)]
    summary = summarize(predictions_of(rows))
    both = {
        (gender, band): numbers
        for gender, bands in summary["gender_age_band_years"].items()
        for band, numbers in bands.items()
    }
    for groups in (summary["gender"], summary["age_band_years"], both):
        counts = [numbers["num_samples"] for numbers in groups.values()]
        maes = [numbers["mae_months"] for numbers in groups.values()]
        assert sum(counts) == 300
        assert np.average(maes, weights=counts) == pytest.approx(summary["all"]["mae_months"])
    girls_of_ten = [row for row in rows if row[0] == "F" and 120 <= row[1] < 144]
    assert both["F", "10-12"] == summarize(predictions_of(girls_of_ten))["all"]


def test_a_positive_bias_means_that_predictions_are_too_old() -> None:
    assert summarize(predictions_of([("F", 100, 5), ("F", 120, 5)]))["all"]["bias_months"] == pytest.approx(5)


def test_a_gender_or_band_without_samples_is_omitted() -> None:
    summary = summarize(predictions_of([("M", 100, 5), ("F", 150, 5)]))
    assert list(summary["age_band_years"]) == ["5-10", "12-15"]
    assert {gender: list(bands) for gender, bands in summary["gender_age_band_years"].items()} == {
        "F": ["12-15"],
        "M": ["5-10"],
    }
    assert list(summarize(predictions_of([("M", 100, 5)]))["gender"]) == ["M"]


def test_groups_of_fewer_than_20_samples_are_marked() -> None:
    summary = summarize(predictions_of([("M", 100, 5)] * 20 + [("F", 100, 5)] * 19))
    assert [summary["gender"][gender]["few_samples"] for gender in "MF"] == [False, True]


def test_too_few_samples_have_no_interval() -> None:
    few = predictions_of([("M", 100, 5)] * 4)
    assert error_metrics(few, np.ones(4, bool))["mae_interval_months"] is None


def test_the_summary_is_plain_json_and_deterministic() -> None:
    first, second = (json.dumps(summarize(EIGHT), allow_nan=False) for _ in range(2))
    assert first == second
    assert json.loads(first) == summarize(EIGHT)
