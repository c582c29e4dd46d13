"""Compute the errors of predictions in months: for all samples, per gender and per age band.

In: predictions.
Out: a dictionary in plain JSON types, and a table.
Invariant: the numbers are a function of the predictions alone; the intervals come from a seeded bootstrap.

A new metric is one line in `error_metrics`, from where it goes to `metrics.json`, and one in `_COLUMNS` for the table.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wds_bone.inference.predictions import Predictions
from wds_bone.learn.metrics import absolute_errors, bootstrap_interval, constant_error

AGE_BAND_MONTHS = 24
OLDEST_BAND_MONTHS = 216
WITHIN_MONTHS = (6, 12, 24)
MIN_INTERVAL_SAMPLES = 5
"""With fewer samples, the bootstrap interval would be meaningless."""
_COLUMNS: dict[str, tuple[int, Callable[[dict[str, Any]], str]]] = {
    "n": (8, lambda numbers: f"{numbers['num_samples']:,}"),
    "MAE": (7, lambda numbers: f"{numbers['mae_months']:.2f}"),
    "95 % interval": (16, lambda numbers: format_interval(numbers["mae_interval_months"], decimals=2)),
    "RMSE": (7, lambda numbers: f"{numbers['rmse_months']:.2f}"),
    "med. AE": (7, lambda numbers: f"{numbers['median_absolute_error_months']:.2f}"),
    "bias": (7, lambda numbers: f"{numbers['bias_months']:+.2f}"),
    **{
        f"<= {months}": (6, lambda numbers, name=f"within_{months}_months": f"{numbers[name]:.0%}")  # type: ignore[misc]
        for months in WITHIN_MONTHS
    },
}
"""The columns of the table: the width, and a function that formats the numbers of a row."""
_FIRST_WIDTH, _CONSTANT_WIDTH = 9, 9


def summarize(predictions: Predictions) -> dict[str, Any]:
    """Return `{"all": numbers, "gender": {"F": numbers, "M": ...}, "age_band_months": {"0-24": numbers, ...}}`.

    The bands are [0, 24), [24, 48), ..., [216, 240]; genders and bands without samples are omitted.
    """
    everything = np.ones(len(predictions.key), bool)
    bands = np.minimum(predictions.age_months // AGE_BAND_MONTHS * AGE_BAND_MONTHS, OLDEST_BAND_MONTHS)
    return {
        "all": error_metrics(predictions, everything),
        "gender": {name: error_metrics(predictions, members) for name, members in gender_members(predictions).items()},
        "age_band_months": {
            f"{start:.0f}-{start + AGE_BAND_MONTHS:.0f}": error_metrics(predictions, bands == start)
            for start in np.unique(bands).tolist()
        },
    }


def gender_members(predictions: Predictions) -> dict[str, NDArray[np.bool_]]:
    """Return which samples are girls ("F") and which are boys ("M"), bool (n,); genders without samples are omitted."""
    members = {"F": predictions.gender == 0, "M": predictions.gender == 1}
    return {gender: chosen for gender, chosen in members.items() if chosen.any()}


def error_metrics(predictions: Predictions, members: NDArray[np.bool_]) -> dict[str, Any]:
    """Return the errors of the samples in `members`, bool (n,) with at least one True.

    An error is predicted minus true age, so a positive bias means that predictions are too old. `within_6_months` and
    so on are fractions of the samples; they include errors of exactly 6 months. The interval of fewer than 5 samples
    is None.
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
    """Return the errors of always predicting the median training age (for F and M, the median of that gender).

    Args:
        predictions: only their true ages and genders are used.
        train_median_months: median training age, for "all" and each gender that was trained on.

    Returns:
        `median_months` and `mae_months` for "all", "F" and "M".
    """
    ages = predictions.age_months
    groups = {"all": np.ones(len(ages), bool), **gender_members(predictions)}
    used = {name: train_median_months.get(name, train_median_months["all"]) for name in groups}
    errors = {name: constant_error(np.array([used[name]]), ages[members]) for name, members in groups.items()}
    return {"median_months": used, "mae_months": errors}


def signed_errors(predicted_months: NDArray[np.float32], age_months: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return predicted minus true age in months, in double precision."""
    return predicted_months.astype(np.float64) - age_months.astype(np.float64)


def format_summary(summary: dict[str, Any], *, constant_mae_months: dict[str, float]) -> str:
    """Return the errors as a table for a terminal.

    Args:
        summary: returned by `summarize`.
        constant_mae_months: MAE of the constant predictor, for "all", "F" and "M".
    """
    groups = {"all": summary["all"], **summary["gender"], **summary["age_band_months"]}
    header = _table_line("group", {name: name for name in _COLUMNS}, "constant")
    lines = [header]
    for name, numbers in groups.items():
        constant = constant_mae_months.get(name)
        cells = {column: show(numbers) for column, (_, show) in _COLUMNS.items()}
        lines.append(_table_line(name, cells, "" if constant is None else f"{constant:.2f}"))
    return "\n".join(lines)


def format_interval(interval: list[float] | None, *, decimals: int) -> str:
    """Return "7.8 to 8.5", or a question mark if there is no interval."""
    return "?" if interval is None else " to ".join(f"{limit:.{decimals}f}" for limit in interval)


def _table_line(name: str, cells: dict[str, str], constant: str) -> str:
    shown = " ".join(f"{cells[column]:>{width}}" for column, (width, _) in _COLUMNS.items())
    return f"{name:<{_FIRST_WIDTH}}{shown} {constant:>{_CONSTANT_WIDTH}}".rstrip()
