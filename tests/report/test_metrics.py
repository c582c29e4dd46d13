import json

import numpy as np
import pytest

from wds_bone.inference.predictions import Predictions
from wds_bone.report.metrics import describe_constant, error_metrics, format_summary, summarize


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
        ("M", 240, 1),
        ("M", 239, -2),
        ("F", 215, 3),
    ]
)


def test_the_metrics_equal_those_computed_by_hand() -> None:
    numbers = summarize(EIGHT)["all"]
    assert numbers["num_samples"] == 8
    assert numbers["mae_months"] == pytest.approx(72.5 / 8)
    assert numbers["bias_months"] == pytest.approx(-4.5 / 8)
    assert numbers["rmse_months"] == pytest.approx(((36 + 144 + 576 + 24.5**2 + 0 + 1 + 4 + 9) / 8) ** 0.5)
    assert numbers["median_absolute_error_months"] == pytest.approx(4.5)
    assert (numbers["within_6_months"], numbers["within_12_months"], numbers["within_24_months"]) == (
        5 / 8,
        6 / 8,
        7 / 8,
    )
    low, high = numbers["mae_interval_months"]
    assert 0 < low < numbers["mae_months"] < high < 24.5


def test_age_bands_include_their_lower_limit_and_the_last_one_also_its_upper_limit() -> None:
    bands = summarize(EIGHT)["age_band_months"]
    assert {name: numbers["num_samples"] for name, numbers in bands.items()} == {
        "0-24": 2,
        "24-48": 2,
        "192-216": 1,
        "216-240": 3,
    }


def test_every_sample_counts_in_one_gender_and_one_age_band() -> None:
    generator = np.random.default_rng(0)
    rows = [("FM"[i % 3 == 0], generator.uniform(0, 240), generator.normal(0, 10)) for i in range(300)]
    summary = summarize(predictions_of(rows))
    for groups in (summary["gender"], summary["age_band_months"]):
        counts = [numbers["num_samples"] for numbers in groups.values()]
        maes = [numbers["mae_months"] for numbers in groups.values()]
        assert sum(counts) == 300
        assert np.average(maes, weights=counts) == pytest.approx(summary["all"]["mae_months"])


def test_a_positive_bias_means_that_predictions_are_too_old() -> None:
    assert summarize(predictions_of([("F", 100, 5), ("F", 120, 5)]))["all"]["bias_months"] == pytest.approx(5)


def test_a_gender_without_samples_is_omitted() -> None:
    summary = summarize(predictions_of([("M", 100, 5)]))
    assert list(summary["gender"]) == ["M"]
    assert "F" not in format_summary(summary, constant_mae_months={"all": 1.0, "M": 1.0})


def test_too_few_samples_have_no_interval() -> None:
    few = predictions_of([("M", 100, 5)] * 4)
    assert error_metrics(few, np.ones(4, bool))["mae_interval_months"] is None


def test_the_summary_is_plain_json_and_deterministic() -> None:
    first, second = (json.dumps(summarize(EIGHT), allow_nan=False) for _ in range(2))
    assert first == second
    assert json.loads(first) == summarize(EIGHT)


def test_the_table_has_a_line_per_group_and_a_column_for_the_constant() -> None:
    lines = format_summary(summarize(EIGHT), constant_mae_months={"all": 33.25, "F": 30.5, "M": 31.5}).splitlines()
    assert [line.split()[0] for line in lines] == ["group", "all", "F", "M", "0-24", "24-48", "192-216", "216-240"]
    assert lines[1].split()[1:3] == ["8", "9.06"]
    assert [line.split()[-1] for line in lines[1:4]] == ["33.25", "30.50", "31.50"]


FOUR = predictions_of([("F", 100, 0), ("F", 110, 0), ("M", 50, 0), ("M", 90, 0)])


def test_the_constant_is_the_median_of_the_training_ages() -> None:
    constant = describe_constant(FOUR, train_median_months={"all": 100.0, "F": 105.0, "M": 60.0})
    assert constant["mae_months"] == {"all": (0 + 10 + 50 + 10) / 4, "F": 5.0, "M": 20.0}


def test_a_gender_that_was_not_trained_on_gets_the_median_of_all_ages() -> None:
    constant = describe_constant(FOUR, train_median_months={"all": 100.0, "F": 105.0})
    assert constant["mae_months"]["M"] == (50 + 10) / 2
