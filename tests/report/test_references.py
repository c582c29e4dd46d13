"""Test the errors that those of a model are compared with."""

import numpy as np
import pytest

from wds_bone.inference.predictions import Predictions
from wds_bone.report.references import describe_references

AGES, GENDERS = np.array([100, 110, 50, 90], np.float32), np.array([0, 0, 1, 1], np.float32)
FOUR = Predictions(["a", "b", "c", "d"], GENDERS, AGES, np.zeros(4, np.float32))
MEDIANS = {"all": 100.0, "F": 105.0, "M": 60.0}


def test_the_constant_is_the_median_of_the_training_ages() -> None:
    constant = describe_references(FOUR, train_median_months=MEDIANS)["constant"]
    assert constant["median_months"] == MEDIANS
    assert constant["mae_months"] == {"all": (0 + 10 + 50 + 10) / 4, "F": 5.0, "M": 20.0}


def test_the_median_of_the_gender_is_also_measured_over_all_samples() -> None:
    references = describe_references(FOUR, train_median_months=MEDIANS)
    assert references["gender_median"]["mae_months"] == (5 + 5 + 10 + 30) / 4


def test_a_gender_that_was_not_trained_on_gets_the_median_of_all_ages() -> None:
    references = describe_references(FOUR, train_median_months={"all": 100.0, "F": 105.0})
    assert references["constant"]["mae_months"]["M"] == (50 + 10) / 2
    assert references["gender_median"]["mae_months"] == (5 + 5 + 50 + 10) / 4


def test_the_error_of_a_radiologist_has_a_source_and_is_plausible() -> None:
    radiologist = describe_references(FOUR, train_median_months=MEDIANS)["radiologist"]
    assert radiologist["mae_months"] == 5.8
    assert "46" in radiologist["source"]
    # The standard deviation between raters, 0.58 years, as a mean absolute error of normal errors.
    assert radiologist["mae_months"] == pytest.approx(12 * 0.58 * (2 / np.pi) ** 0.5, abs=0.3)
