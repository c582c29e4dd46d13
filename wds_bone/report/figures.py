"""Draw every prediction: against the true age, and as Bland and Altman do.

In: predictions and their errors.
Out: figures.
Invariant: every sample is in sight, and nothing but points and lines is drawn over another one.
"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from wds_bone.figure_style import (
    FAINT_INK,
    GENDER_COLORS,
    GENDER_MARKERS,
    INK,
    TREND_COLOR,
    add_legend,
    label_axes,
    label_levels,
    label_top,
    new_figure,
    set_age_ticks,
    set_error_limits,
    with_minus_signs,
)
from wds_bone.inference.predictions import Predictions
from wds_bone.labels.values import GENDER_NAMES
from wds_bone.report.metrics import format_interval, gender_members, signed_errors

MAX_VECTOR_POINTS = 5_000
"""More points are an image within the PDF, which would otherwise be large and slow to show."""
_TOLERANCE_MONTHS = 12
_NUM_LAYERS = 8
_MIN_TREND_SAMPLES = 3
_DASHES = (5, 3)
_SPACE_MONTHS = 3
_INTERVAL_NAMES = ("bias_interval_months", "low_interval_months", "high_interval_months")


def draw_scatter(predictions: Predictions, summary: dict[str, Any], *, remark: str = "") -> Figure:
    """Draw the predicted against the true age, with the least squares line of predicted over true ages.

    Args:
        predictions: one point for each sample.
        summary: returned by `summarize`, for the title and the legend.
        remark: appended to the title, for example that genders were swapped.
    """
    figure, (axes,) = new_figure(f"Predicted and true age{remark}", _describe_error(summary["all"]))
    true, predicted = predictions.age_months, predictions.predicted_months
    _draw_points(axes, predictions, true, predicted, summary=summary)
    low, high = _whole_years(np.concatenate([true, predicted]))
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.axline((0, 0), slope=1, color=INK, linewidth=1, label="predicted = true")
    for offset in (_TOLERANCE_MONTHS, -_TOLERANCE_MONTHS):
        axes.axline((0, offset), slope=1, color=FAINT_INK, linewidth=0.9, dashes=_DASHES)
    label_top(axes, high - _TOLERANCE_MONTHS, f"+{_TOLERANCE_MONTHS} months")
    label_levels(axes, {high - _TOLERANCE_MONTHS: f"-{_TOLERANCE_MONTHS} months"})
    slope = _draw_trend(axes, true, predicted)
    if slope is not None:
        axes.lines[-1].set_label(f"trend, slope {slope:.2f}")
    label_axes(axes, x="true age in months", y="predicted age in months")
    set_age_ticks(axes.xaxis)
    set_age_ticks(axes.yaxis)
    add_legend(figure)
    return figure


def draw_bland_altman(predictions: Predictions, summary: dict[str, Any], *, remark: str = "") -> Figure:
    """Draw the error against the mean of predicted and true age (Bland and Altman, Lancet 1986).

    The bias and the limits of agreement have their 95 % intervals, and there is the least squares line of the errors
    over the means (Bland and Altman, Statistical Methods in Medical Research 1999).

    Args:
        predictions: one point for each sample.
        summary: returned by `summarize`, for the limits and the legend.
        remark: appended to the title, for example that genders were swapped.
    """
    errors = signed_errors(predictions.predicted_months, predictions.age_months)
    means = predictions.age_months + errors / 2
    figure, (axes,) = new_figure(f"Agreement of predicted and true age{remark}", _describe_agreement(summary["all"]))
    _draw_points(axes, predictions, means, errors, summary=summary)
    axes.axhline(0, color=FAINT_INK, linewidth=0.6, zorder=0)
    bias, agreement = summary["all"]["bias_months"], summary["all"]["bland_altman"]
    levels = {"bias": bias, "upper limit": agreement["high_months"], "lower limit": agreement["low_months"]}
    known = {name: level for name, level in levels.items() if level is not None}
    set_error_limits(axes, errors.min(), errors.max(), *_interval_ends(agreement))
    axes.set_xlim(_whole_years(means))
    for name, level in known.items():
        axes.axhline(level, color=INK, linewidth=1, linestyle="-" if name == "bias" else (0, _DASHES))
    _draw_intervals(axes, agreement)
    label_levels(axes, {level: f"{_signed(level)} {name}" for name, level in known.items()})
    slope = _draw_trend(axes, means, errors)
    if slope is not None:
        axes.lines[-1].set_label(f"trend, {_signed(12 * slope)} months per year")
    label_axes(axes, x="mean of predicted and true age in months", y="predicted minus true age in months")
    set_age_ticks(axes.xaxis)
    add_legend(figure)
    return figure


def _describe_error(numbers: dict[str, Any]) -> str:
    mae, interval = f"MAE {numbers['mae_months']:.1f} months", numbers["mae_interval_months"]
    if interval is not None:
        mae += f" (95 % interval {format_interval(interval, decimals=1)})"
    return f"{mae}, RMSE {numbers['rmse_months']:.1f}, bias {_signed(numbers['bias_months'])}, n = {_count(numbers)}"


def _describe_agreement(numbers: dict[str, Any]) -> str:
    agreement = numbers["bland_altman"]
    bias = f"bias {_signed(numbers['bias_months'])} months"
    if agreement["low_months"] is None:
        return f"{bias}, n = {_count(numbers)}"
    limits = f"{_signed(agreement['low_months'])} to {_signed(agreement['high_months'])}"
    return f"{bias}, 95 % limits of agreement {limits}, n = {_count(numbers)}"


def _signed(months: float) -> str:
    return with_minus_signs(f"{months:+z.1f}")


def _count(numbers: dict[str, Any]) -> str:
    return f"{numbers['num_samples']:,}"


def _draw_points(
    axes: Axes,
    predictions: Predictions,
    x: NDArray[np.floating],
    y: NDArray[np.floating],
    *,
    summary: dict[str, Any],
) -> None:
    """Draw each gender in its color and marker; the more points there are, the fainter and smaller they are.

    The points are drawn in layers that alternate between the genders, so that neither hides the other.
    """
    density = len(y) ** 0.5
    style = {"alpha": np.clip(18 / density, 0.3, 0.8), "s": np.clip(500 / density, 6, 30), "linewidths": 0}
    members = gender_members(predictions)
    for layer in np.array_split(np.arange(len(y)), _NUM_LAYERS):
        for gender, chosen in members.items():
            drawn = layer[chosen[layer]]
            axes.scatter(
                x[drawn],
                y[drawn],
                color=GENDER_COLORS[gender],
                marker=GENDER_MARKERS[gender],
                rasterized=len(y) > MAX_VECTOR_POINTS,
                **style,
            )
    for gender in members:
        numbers = summary["gender"][gender]
        label = f"{GENDER_NAMES[gender]}: MAE {numbers['mae_months']:.1f} months, n = {_count(numbers)}"
        axes.scatter([], [], color=GENDER_COLORS[gender], marker=GENDER_MARKERS[gender], s=25, label=label)


def _draw_trend(axes: Axes, x: NDArray[np.floating], y: NDArray[np.floating]) -> float | None:
    """Draw the least squares line of y over x, and return its slope; None if there is none to draw."""
    if len(x) < _MIN_TREND_SAMPLES or x.min() == x.max():
        return None
    deviations = x.astype(np.float64) - x.mean()
    slope = float(deviations @ y.astype(np.float64) / (deviations @ deviations))
    ends = np.array([x.min(), x.max()], np.float64)
    outline = [withStroke(linewidth=3, foreground="white")]
    axes.plot(
        ends,
        y.mean() + slope * (ends - x.mean()),
        color=TREND_COLOR,
        linewidth=1.8,
        dashes=(7, 2),
        path_effects=outline,
    )
    return slope


def _draw_intervals(axes: Axes, agreement: dict[str, Any]) -> None:
    """Draw a band for the 95 % interval of the bias and of each limit, if there are enough samples for intervals."""
    label: str | None = "95 % intervals of bias and limits"
    for name in _INTERVAL_NAMES:
        if agreement[name] is not None:
            axes.axhspan(*agreement[name], color=FAINT_INK, alpha=0.25, linewidth=0, label=label)
            label = None


def _interval_ends(agreement: dict[str, Any]) -> list[float]:
    return [end for name in _INTERVAL_NAMES for end in agreement[name] or ()]


def _whole_years(months: NDArray[np.floating]) -> tuple[float, float]:
    """Return limits in whole years that include all ages, and some space; zero if no age is close to it."""
    low, high = (months.min() - _SPACE_MONTHS) / 12, (months.max() + _SPACE_MONTHS) / 12
    return float(np.floor(low) * 12), float(np.ceil(high) * 12)
