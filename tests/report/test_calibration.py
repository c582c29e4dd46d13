from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import beta

from tests.inference.test_calibration import drawn
from wds_bone.inference.calibration import Calibration, conformal_rank
from wds_bone.inference.predictions import Predictions
from wds_bone.inference.trained_on import describe_samples
from wds_bone.report.calibration import (
    FEW_FOR_A_LINE,
    calibrated_on_warning,
    expected_coverage,
    few_samples_warnings,
    format_calibration,
)


def calibrated_on(predictions: Predictions, *, corrects: bool = False) -> dict[str, object]:
    columns = predictions.key, predictions.gender, predictions.age_months
    return {"calibrated_on": describe_samples(*columns, salt="00ff"), "calibration": {"corrects": corrects}}


def part_of(predictions: Predictions, *, start: int) -> Predictions:
    columns = (predictions.gender, predictions.age_months, predictions.predicted_months)
    return Predictions(predictions.key[start:], *(column[start:] for column in columns))


def test_the_text_has_the_numbers_of_each_gender():
    calibration = Calibration.fit(drawn(2500, seed=0))
    girls, boys, *explanation = format_calibration(calibration).splitlines()
    assert girls.startswith("girls")
    assert f"+/- {calibration.genders['F'].half_width_months:.1f} months, from 1,250 samples" in girls
    assert f"+/- {calibration.genders['M'].half_width_months:.1f} months" in boys
    assert "coverage 90.0% +/- 1.7%" in boys
    assert explanation[0].startswith("Level 0.9. ")
    assert max(map(len, explanation)) <= 120


def test_a_correction_is_part_of_the_text():
    calibration = Calibration.fit(drawn(2500, seed=0), correct=True)
    _, line, *_ = format_calibration(calibration).splitlines()
    girls = calibration.genders["F"]
    assert girls.intercept_months < 0
    assert f"{girls.slope:.3f} x prediction - {-girls.intercept_months:.1f} months" in line
    assert f"standard error {girls.standard_error_months:.1f}" in line


@pytest.mark.parametrize(("num_samples", "level"), [(9, 0.9), (50, 0.8), (1000, 0.95)])
def test_the_expected_coverage_is_that_of_a_beta_distribution(num_samples: int, level: float):
    rank = conformal_rank(num_samples, level=level)
    oracle = beta(rank, num_samples + 1 - rank)
    assert expected_coverage(num_samples, level=level) == pytest.approx((oracle.mean(), oracle.std()), rel=1e-9)


def test_a_correction_from_few_samples_is_warned_of_for_that_gender():
    many, few = drawn(2 * FEW_FOR_A_LINE, seed=0), drawn(2 * FEW_FOR_A_LINE - 1, seed=0)
    assert list(few_samples_warnings(Calibration.fit(many, correct=True))) == []
    assert list(few_samples_warnings(Calibration.fit(few))) == []
    (warning,) = few_samples_warnings(Calibration.fit(few, correct=True))
    assert warning.startswith(f"warning: the correction for boys is based on {FEW_FOR_A_LINE - 1} samples")


def test_samples_of_the_calibration_are_recognized():
    predictions = with_intervals(drawn(100, seed=0))
    contents = calibrated_on(part_of(predictions, start=30))
    warning = calibrated_on_warning(contents, predictions, where="best.pt")
    assert warning is not None
    assert warning.startswith("warning: 70 of the 100 samples (the first is 'film-30')")
    other = replace(predictions, key=[f"other-{key}" for key in predictions.key])
    assert calibrated_on_warning(contents, other, where="best.pt") is None


def with_intervals(predictions: Predictions) -> Predictions:
    return replace(predictions, interval_months=np.zeros((len(predictions.key), 2), np.float32))


@pytest.mark.parametrize(
    ("corrects", "has_intervals", "affected"),
    [
        (False, True, "the coverage of their intervals cannot be"),
        (True, False, "their errors cannot be"),
        (True, True, "their errors and the coverage of their intervals cannot be"),
        (False, False, None),
    ],
)
def test_the_warning_names_what_the_calibration_makes_look_better(
    corrects: bool, has_intervals: bool, affected: str | None
):
    predictions = with_intervals(drawn(10, seed=0)) if has_intervals else drawn(10, seed=0)
    contents = calibrated_on(predictions, corrects=corrects)
    warning = calibrated_on_warning(contents, predictions, where="best.pt")
    if affected is None:
        assert warning is None
    else:
        assert f"if they are the same films, {affected} expected of other films" in str(warning)


@pytest.mark.parametrize("contents", [{"calibration": None}, {"calibrated_on": None, "calibration": None}])
def test_without_a_calibration_there_is_no_warning(contents: dict[str, None]):
    assert calibrated_on_warning(contents, drawn(10, seed=0), where="best.pt") is None
