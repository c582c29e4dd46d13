"""Compute the errors of predictions in months: for all samples, per gender, per age band, and per both.

In: predictions.
Out: a dictionary in plain JSON types.
Invariant: the numbers are a function of the predictions alone; the intervals come from a seeded bootstrap.

A new metric is one line in `error_metrics`, from where it goes to `metrics.json`, and one in `report/table.py`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wds_bone.inference.bootstrap import bootstrap_interval
from wds_bone.inference.predictions import Predictions
from wds_bone.report.agreement import MIN_INTERVAL_SAMPLES, measure_agreement

AGE_BANDS_YEARS = ((0, 2), (2, 5), (5, 10), (10, 12), (12, 15), (15, 19))
"""The bands include their lower limit, the last one also its upper limit."""
OLDEST_BAND = "over 19"
FEW_SAMPLES = 20
"""Groups with fewer samples are marked, because their numbers say little."""
WITHIN_MONTHS = (6, 12, 18, 24)


def summarize(predictions: Predictions) -> dict[str, Any]:
    """Return the errors of all samples and of groups of them; groups without samples are omitted.

    Returns:
        `all`: numbers, as returned by `error_metrics`.
        `gender`: numbers for "F" and "M".
        `age_band_years`: numbers for "0-2", "2-5", "5-10", "10-12", "12-15", "15-19" and "over 19".
        `gender_age_band_years`: for "F" and "M", numbers for each of these bands.
    """
    everything = np.ones(len(predictions.key), bool)
    genders, bands = gender_members(predictions), band_members(predictions)
    return {
        "all": error_metrics(predictions, everything),
        "gender": {gender: error_metrics(predictions, members) for gender, members in genders.items()},
        "age_band_years": {band: error_metrics(predictions, members) for band, members in bands.items()},
        "gender_age_band_years": {
            gender: {
                band: error_metrics(predictions, of_gender & in_band)
                for band, in_band in bands.items()
                if (of_gender & in_band).any()
            }
            for gender, of_gender in genders.items()
        },
    }


def gender_members(predictions: Predictions) -> dict[str, NDArray[np.bool_]]:
    """Return which samples are girls ("F") and which are boys ("M"), bool (n,); genders without samples are omitted."""
    members = {"F": predictions.gender == 0, "M": predictions.gender == 1}
    return {gender: chosen for gender, chosen in members.items() if chosen.any()}


def band_members(predictions: Predictions) -> dict[str, NDArray[np.bool_]]:
    """Return which samples are in each band of true ages, bool (n,); bands without samples are omitted."""
    ages, oldest = predictions.age_months, 12 * AGE_BANDS_YEARS[-1][1]
    bands = np.searchsorted([12 * start for start, _ in AGE_BANDS_YEARS[1:]], ages, side="right")
    bands[ages > oldest] = len(AGE_BANDS_YEARS)
    names = [*(f"{start}-{end}" for start, end in AGE_BANDS_YEARS), OLDEST_BAND]
    return {names[band]: bands == band for band in np.unique(bands).tolist()}


def error_metrics(predictions: Predictions, members: NDArray[np.bool_]) -> dict[str, Any]:
    """Return the errors of the samples in `members`, bool (n,) with at least one True.

    An error is predicted minus true age, so a positive bias means that predictions are too old. `p90` and `p95` are
    percentiles. `within_6_months` and so on are fractions of the samples; they include errors of exactly 6 months.
    `few_samples` marks groups of fewer than 20. The interval of the MAE of fewer than 5 samples is None. The other
    numbers are described in `measure_agreement`.
    """
    predicted, true = (
        months[members].astype(np.float64) for months in (predictions.predicted_months, predictions.age_months)
    )
    absolute = np.abs(predicted - true)
    median, p90, p95 = np.quantile(absolute, [0.5, 0.9, 0.95]).tolist()
    return {
        "num_samples": len(true),
        "few_samples": len(true) < FEW_SAMPLES,
        "mae_months": float(absolute.mean()),
        "mae_interval_months": list(bootstrap_interval(absolute)) if len(true) >= MIN_INTERVAL_SAMPLES else None,
        "rmse_months": float(np.sqrt(np.mean(absolute**2))),
        "median_absolute_error_months": median,
        "p90_absolute_error_months": p90,
        "p95_absolute_error_months": p95,
        "max_absolute_error_months": float(absolute.max()),
        "bias_months": float((predicted - true).mean()),
        **{f"within_{months}_months": float(np.mean(absolute <= months)) for months in WITHIN_MONTHS},
        **measure_agreement(predicted, true),
    }


def signed_errors(predicted_months: NDArray[np.float32], age_months: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return predicted minus true age in months, in double precision."""
    return predicted_months.astype(np.float64) - age_months.astype(np.float64)


def format_interval(interval: list[float] | None, *, decimals: int) -> str:
    """Return "7.8 to 8.5", or a question mark if there is no interval."""
    return "?" if interval is None else " to ".join(f"{limit:z.{decimals}f}" for limit in interval)
