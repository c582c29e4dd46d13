"""Predictions -> numbers in months, for all samples, per gender and per age band.

In come predictions, out goes a dictionary in plain JSON types. The invariant: the numbers are a function of the
predictions alone; the intervals come from a seeded bootstrap.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wds_bone.learn.metrics import absolute_errors, bootstrap_interval, constant_error
from wds_bone.learn.validate import Predictions

AGE_BAND_MONTHS = 24
OLDEST_BAND_MONTHS = 216
WITHIN_MONTHS = (6, 12, 24)
MIN_INTERVAL_SAMPLES = 5
"""Resampling fewer than these says more about the bootstrap than about the model."""
_LINE = "{:<9}{:>8} {:>7} {:>16} {:>7} {:>7} {:>7} {:>6} {:>6} {:>6} {:>9}"
_HEADER = ("months", "n", "MAE", "95 % interval", "RMSE", "median", "bias", "in 6", "in 12", "in 24", "constant")


def summarize(predictions: Predictions) -> dict[str, Any]:
    """Return `{"all": numbers, "gender": {"F": numbers, "M": ...}, "age_band_months": {"0-24": numbers, ...}}`.

    Bands are [0, 24), [24, 48), ..., the last one [216, 240]; genders and bands without a sample are left out.
    """
    everything = np.ones(len(predictions.key), bool)
    bands = np.minimum(predictions.age_months // AGE_BAND_MONTHS * AGE_BAND_MONTHS, OLDEST_BAND_MONTHS)
    return {
        "all": error_numbers(predictions, everything),
        "gender": {name: error_numbers(predictions, members) for name, members in gender_members(predictions).items()},
        "age_band_months": {
            f"{start:.0f}-{start + AGE_BAND_MONTHS:.0f}": error_numbers(predictions, bands == start)
            for start in np.unique(bands).tolist()
        },
    }


def gender_members(predictions: Predictions) -> dict[str, NDArray[np.bool_]]:
    """Return which samples are girls ("F") and which boys ("M"), bool (n,); a gender without a sample is left out."""
    members = {"F": predictions.gender == 0, "M": predictions.gender == 1}
    return {gender: chosen for gender, chosen in members.items() if chosen.any()}


def error_numbers(predictions: Predictions, members: NDArray[np.bool_]) -> dict[str, Any]:
    """Return the numbers of the samples in `members`, bool (n,), at least one of them.

    An error is predicted less true: a positive bias means that hands are judged too old. `within_6_months` and so on
    are fractions of the samples, an error of exactly 6 included. Fewer than 5 samples have no interval (None).
    """
    predicted, ages = predictions.predicted_months[members], predictions.age_months[members]
    absolute = absolute_errors(predicted, ages)
    numbers = {
        "num_samples": len(ages),
        "mae_months": float(absolute.mean()),
        "mae_interval_months": list(bootstrap_interval(absolute)) if len(ages) >= MIN_INTERVAL_SAMPLES else None,
        "rmse_months": float(np.sqrt(np.mean(absolute**2))),
        "median_absolute_error_months": float(np.median(absolute)),
        "bias_months": float(signed_errors(predicted, ages).mean()),
    }
    return numbers | {f"within_{months}_months": float(np.mean(absolute <= months)) for months in WITHIN_MONTHS}


def describe_constant(predictions: Predictions, *, train_median_months: dict[str, float]) -> dict[str, Any]:
    """Return how far off one would be without looking at any image: always the median age, for F and M the gender's.

    Args:
        predictions: whose true ages are missed.
        train_median_months: of the training ages, for "all" and the genders in them.

    Returns:
        `median_months` and `mae_months` for "all", "F" and "M".
    """
    ages = predictions.age_months
    groups = {"all": np.ones(len(ages), bool), **gender_members(predictions)}
    used = {name: train_median_months.get(name, train_median_months["all"]) for name in groups}
    errors = {name: constant_error(np.array([used[name]]), ages[members]) for name, members in groups.items()}
    return {"median_months": used, "mae_months": errors}


def signed_errors(predicted_months: NDArray[np.float32], age_months: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return predicted less true age in months, in double precision."""
    return predicted_months.astype(np.float64) - age_months.astype(np.float64)


def summary_table(summary: dict[str, Any], *, constant_mae_months: dict[str, float]) -> str:
    """Return what `summarize` returned as a table for a terminal.

    Args:
        summary: the numbers.
        constant_mae_months: error of predicting the median age, for "all", "F" and "M".
    """
    groups = {"all": summary["all"], **summary["gender"], **summary["age_band_months"]}
    lines = [_table_line(name, numbers, constant_mae_months.get(name)) for name, numbers in groups.items()]
    return "\n".join([_LINE.format(*_HEADER), *lines])


def interval_text(interval: list[float] | None, *, decimals: int) -> str:
    """Return "7.8 to 8.5", or a question mark for no interval."""
    return "?" if interval is None else " to ".join(f"{limit:.{decimals}f}" for limit in interval)


def _table_line(name: str, numbers: dict[str, Any], constant_mae_months: float | None) -> str:
    errors = [f"{numbers[key]:.2f}" for key in ("rmse_months", "median_absolute_error_months")]
    within = [f"{numbers[f'within_{months}_months']:.0%}" for months in WITHIN_MONTHS]
    constant = "" if constant_mae_months is None else f"{constant_mae_months:.2f}"
    mae, interval = f"{numbers['mae_months']:.2f}", interval_text(numbers["mae_interval_months"], decimals=2)
    bias = f"{numbers['bias_months']:+.2f}"
    return _LINE.format(name, f"{numbers['num_samples']:,}", mae, interval, *errors, bias, *within, constant).rstrip()
