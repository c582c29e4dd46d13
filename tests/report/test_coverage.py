import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from wds_bone.inference.predictions import Predictions
from wds_bone.report.coverage import coverage, wilson_interval

AGES = np.float32([10, 24, 30, 60, 130, 144, 180, 228, 240])
INTERVALS = np.float32([[0, 10], [25, 30], [20, 40], [60, 70], [130, 130], [0, 1], [170, 190], [0, 300], [241, 250]])


def predictions() -> Predictions:
    genders = (np.arange(len(AGES)) % 2).astype(np.float32)
    return Predictions([str(age) for age in AGES], genders, AGES, AGES, INTERVALS)


def test_both_limits_belong_to_an_interval():
    numbers = coverage(predictions())["all"]
    assert (numbers["num_covered"], numbers["num_samples"]) == (6, 9)
    assert numbers["coverage"] == pytest.approx(6 / 9)
    assert numbers["mean_width_months"] == pytest.approx(np.mean(INTERVALS[:, 1] - INTERVALS[:, 0]))


def test_every_sample_is_counted_for_its_gender_and_its_age_band():
    numbers = coverage(predictions())
    counts = {name: (group["num_covered"], group["num_samples"]) for name, group in numbers["gender"].items()}
    assert counts == {"F": (4, 5), "M": (2, 4)}
    bands = {name: (group["num_covered"], group["num_samples"]) for name, group in numbers["age_band_years"].items()}
    assert bands == {
        "0-2": (1, 1),
        "2-5": (1, 2),
        "5-10": (1, 1),
        "10-12": (1, 1),
        "12-15": (0, 1),
        "15-19": (2, 2),
        "over 19": (0, 1),
    }
    json.dumps(numbers, allow_nan=False)


@given(num_trials=st.integers(1, 3000), fraction=st.floats(0, 1))
def test_the_interval_of_a_proportion_is_that_of_scipy(num_trials: int, fraction: float):
    num_successes = round(fraction * num_trials)
    expected = binomtest(num_successes, num_trials).proportion_ci(method="wilson")
    assert wilson_interval(num_successes, num_trials) == pytest.approx((expected.low, expected.high), abs=1e-12)
