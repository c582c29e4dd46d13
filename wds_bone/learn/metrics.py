"""Predictions and ages -> numbers in months.

In come arrays of equal length, out go errors and their intervals. The invariant: the same predictions give the same
numbers with the same NumPy; the bootstrap is seeded, but another version may draw other resamples.
"""

import numpy as np
from numpy.typing import NDArray

Months = NDArray[np.float32] | NDArray[np.float64]

NUM_RESAMPLES = 1000


def absolute_errors(predicted_months: Months, age_months: Months) -> NDArray[np.float64]:
    """Return the absolute errors in months, (n,), in double precision."""
    return np.abs(np.asarray(predicted_months, np.float64) - np.asarray(age_months, np.float64))


def bootstrap_interval(values: Months, *, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean (Efron, 1979) of `values`, (n,)."""
    generator = np.random.Generator(np.random.PCG64(seed))
    means = [np.mean(values[generator.integers(len(values), size=len(values))]) for _ in range(NUM_RESAMPLES)]
    low, high = np.quantile(means, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)


def constant_error(train_age_months: Months, age_months: Months) -> float:
    """Return the error of the best prediction without looking: always the median of the training ages."""
    return float(np.mean(np.abs(age_months.astype(np.float64) - np.median(train_age_months))))


def median_ages(age_months: Months, genders: NDArray[np.uint8]) -> dict[str, float]:
    """Return the median age in months of "all" and of each gender, "F" and "M", that occurs (1 is male)."""
    groups = {"all": genders >= 0, "F": genders == 0, "M": genders == 1}
    return {name: float(np.median(age_months[members])) for name, members in groups.items() if members.any()}
