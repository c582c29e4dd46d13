"""Test the table of an evaluation for a terminal."""

import numpy as np
import pytest

from wds_bone.inference.predictions import Predictions
from wds_bone.report.metrics import summarize
from wds_bone.report.references import describe_references
from wds_bone.report.table import format_summary

MEDIANS = {"all": 132.0, "F": 120.0, "M": 144.0}


def random_predictions(num_samples: int, *, sd_months: float) -> Predictions:
    generator = np.random.default_rng(0)
    ages = generator.uniform(0, 240, num_samples).astype(np.float32)
    errors = generator.normal(1, sd_months, num_samples).astype(np.float32)
    genders = (generator.random(num_samples) < 0.5).astype(np.float32)
    return Predictions([str(row) for row in range(num_samples)], genders, ages, ages + errors)


def table_of(predictions: Predictions) -> list[str]:
    return format_summary(
        summarize(predictions), describe_references(predictions, train_median_months=MEDIANS)
    ).splitlines()


def test_the_table_has_a_line_for_each_group() -> None:
    lines = table_of(random_predictions(600, sd_months=8))
    bands = ["0-2 y", "2-5 y", "5-10 y", "10-12 y", "12-15 y", "15-19 y", "over 19 y"]
    crossed = [f"{name} {band}" for name in ("girls", "boys") for band in bands]
    groups = ["group", "all", "girls", "boys", *bands, *crossed]
    assert [line[:15].strip() for line in lines[: len(groups)]] == groups


def test_every_number_of_a_line_is_that_of_its_group() -> None:
    predictions = random_predictions(600, sd_months=8)
    numbers, lines = summarize(predictions)["all"], table_of(predictions)
    header = "group n MAE 95 % interval RMSE median P90 P95 max bias <= 6 <= 12 <= 18 <= 24"
    assert lines[0].split() == header.split()
    low, high = numbers["mae_interval_months"]
    assert lines[1].split() == [
        *("all", "600", f"{numbers['mae_months']:.2f}", f"{low:.2f}", "to", f"{high:.2f}"),
        f"{numbers['rmse_months']:.2f}",
        f"{numbers['median_absolute_error_months']:.2f}",
        *(f"{numbers[f'{name}_absolute_error_months']:.1f}" for name in ("p90", "p95", "max")),
        f"{numbers['bias_months']:+.2f}",
        *(f"{numbers[f'within_{months}_months']:.0%}" for months in (6, 12, 18, 24)),
    ]


@pytest.mark.parametrize(("num_samples", "sd_months"), [(1, 8.0), (40, 8.0), (12_000, 300.0)])
def test_the_text_has_at_most_120_columns(num_samples: int, sd_months: float) -> None:
    assert max(map(len, table_of(random_predictions(num_samples, sd_months=sd_months)))) <= 120


def test_groups_with_few_samples_are_marked_and_the_mark_is_explained() -> None:
    predictions = random_predictions(600, sd_months=8)
    small = Predictions(predictions.key[:19], *(column[:19] for column in columns_of(predictions)))
    large = Predictions(
        predictions.key, *columns_of(predictions)[:1], np.full(600, 100, np.float32), predictions.age_months
    )
    assert "19*" in table_of(small)[1]
    assert "* fewer than 20 samples" in table_of(small)
    assert "*" not in "\n".join(table_of(large))


def test_agreement_and_references_are_below_the_table() -> None:
    predictions = random_predictions(600, sd_months=8)
    numbers, text = summarize(predictions)["all"], "\n".join(table_of(predictions))
    references = describe_references(predictions, train_median_months=MEDIANS)
    assert f"Lin's CCC {numbers['lin_ccc']:.3f}" in text
    assert f"true age {numbers['error_slope']:+z.2f}\n" in text
    assert f"limits of agreement {numbers['bland_altman']['low_months']:+.1f} (" in text
    assert f"{references['constant']['mae_months']['all']:.2f}  always the median training age\n" in text
    assert (
        f"{references['gender_median']['mae_months']:.2f}  always the median training age of the gender, girls" in text
    )
    assert "5.8   a radiologist" in text


def test_numbers_that_one_sample_does_not_determine_are_question_marks() -> None:
    text = "\n".join(table_of(random_predictions(1, sd_months=8)))
    assert "Pearson's r ?" in text
    assert "limits of agreement ? (?) and ? (?)" in text
    assert "nan" not in text


def test_a_bias_that_rounds_to_zero_is_not_negative() -> None:
    ages = np.arange(30, dtype=np.float32)
    unbiased = Predictions([str(age) for age in ages], np.zeros(30, np.float32), ages, ages - np.float32(1e-3))
    assert "-0.0" not in "\n".join(table_of(unbiased))


def columns_of(predictions: Predictions) -> tuple[np.ndarray, ...]:
    return predictions.gender, predictions.age_months, predictions.predicted_months
