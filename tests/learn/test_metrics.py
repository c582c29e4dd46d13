"""Test the numbers in `metrics.jsonl`."""

import numpy as np
import pytest

from wds_bone.learn.metrics import absolute_errors, constant_error, median_ages


def test_the_constant_predictor_predicts_the_median_of_the_training_ages():
    train, val = np.array([10, 20, 90], np.float32), np.array([0, 20, 100], np.float32)
    assert constant_error(train, val) == pytest.approx(100 / 3)


def test_errors_are_computed_in_double_precision():
    errors = absolute_errors(np.array([1e-3], np.float32), np.array([228], np.float32))
    assert errors.dtype == np.float64
    assert errors[0] == 228.0 - float(np.float32(1e-3))


def test_median_ages_cover_all_samples_and_each_gender_that_occurs():
    ages, genders = np.array([10.0, 20.0, 60.0]), np.array([0, 0, 1], np.uint8)
    assert median_ages(ages, genders) == {"all": 20.0, "F": 15.0, "M": 60.0}
    assert median_ages(ages[:2], genders[:2]) == {"all": 15.0, "F": 15.0}
