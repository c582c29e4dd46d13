"""Compute the label statistics of a split.

In: a sample table.
Out: plain JSON types, for the manifest.
Invariant: sums are exactly rounded (`math.fsum`), so that the manifest has the same bytes on every machine.
"""

import math
from typing import Any

import numpy as np

from wds_bone.shards.samples import SampleTable

AGE_BAND_MONTHS, NUM_AGE_BANDS = 12, 20


def label_statistics(table: SampleTable) -> dict[str, Any]:
    """Return the counts per gender, and the mean, population SD, extremes and histogram of the ages in months.

    The histogram has 20 bands of 12 months per gender: [0, 12), [12, 24), ..., [228, 240].
    """
    ages = table["age_months"].astype(float).tolist()
    mean = math.fsum(ages) / len(ages)
    variance = math.fsum((age - mean) ** 2 for age in ages) / len(ages)
    return {
        "age_months": {"mean": mean, "sd": math.sqrt(variance), "min": min(ages), "max": max(ages)},
        "genders": {gender: int((table["gender"] == gender.encode()).sum()) for gender in "FM"},
        "age_histogram": {gender: age_histogram(table, gender) for gender in "FM"},
    }


def age_histogram(table: SampleTable, gender: str) -> list[int]:
    """Return the number of samples of `gender` ("F" or "M") in each of the 20 age bands of 12 months."""
    ages = table["age_months"][table["gender"] == gender.encode()]
    bands = np.minimum(ages // AGE_BAND_MONTHS, NUM_AGE_BANDS - 1).astype(int)
    return [int(count) for count in np.bincount(bands, minlength=NUM_AGE_BANDS)]
