"""Measure how often intervals contain the true age, and how wide they are.

In: predictions with intervals.
Out: a dictionary in plain JSON types: for all samples, per gender and per age band.
Invariant: the numbers are a function of the predictions alone.
"""

from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wds_bone.inference.predictions import Predictions
from wds_bone.report.metrics import band_members, gender_members


def coverage(predictions: Predictions) -> dict[str, Any]:
    """Return `{"all": numbers, "gender": {"F": numbers, "M": ...}, "age_band_years": {"0-2": numbers, ...}}`.

    The numbers are `num_samples`, `num_covered`, `coverage`, `coverage_interval` (95 %) and `mean_width_months`.
    The intervals promise their level on average over the samples of a gender, not within an age band.

    Args:
        predictions: must have intervals; both limits belong to an interval.
    """
    assert predictions.interval_months is not None
    (low, high), ages = predictions.interval_months.T.astype(np.float64), predictions.age_months
    covered, widths = (low <= ages) & (ages <= high), high - low

    def describe(members: NDArray[np.bool_]) -> dict[str, Any]:
        return _describe(covered[members], widths[members])

    return {
        "all": _describe(covered, widths),
        "gender": {name: describe(members) for name, members in gender_members(predictions).items()},
        "age_band_years": {name: describe(members) for name, members in band_members(predictions).items()},
    }


def wilson_interval(num_successes: int, num_trials: int, *, level: float = 0.95) -> tuple[float, float]:
    """Return the score interval of a proportion (Wilson, JASA 22, 1927)."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    proportion, weight = num_successes / num_trials, z**2 / num_trials
    center = proportion + weight / 2
    half_width = z * (proportion * (1 - proportion) / num_trials + weight / num_trials / 4) ** 0.5
    return (center - half_width) / (1 + weight), (center + half_width) / (1 + weight)


def _describe(covered: NDArray[np.bool_], widths: NDArray[np.float64]) -> dict[str, Any]:
    num_covered = int(covered.sum())
    return {
        "num_samples": len(covered),
        "num_covered": num_covered,
        "coverage": num_covered / len(covered),
        "coverage_interval": list(wilson_interval(num_covered, len(covered))),
        "mean_width_months": float(widths.mean()),
    }
