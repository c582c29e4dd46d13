"""Draw the two figures of an evaluation.

In: predictions and their errors.
Out: figures and PNG bytes.
Invariant: no global state is used (no pyplot), so figures can be drawn in any process and thread, and the same
predictions give the same bytes.
"""

import io
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from wds_bone.inference.predictions import Predictions
from wds_bone.report.metrics import format_interval, gender_members, signed_errors

INCHES, DOTS_PER_INCH = (7.2, 7.4), 150
_STYLES = {"F": ("#D55E00", "o"), "M": ("#0072B2", "^")}
"""Vermilion circles and blue triangles: colors of the Okabe-Ito palette, which color-blind readers can tell apart."""
_NAMES = {"F": "girls", "M": "boys"}
_AGREEMENT_SDS = 1.96
_NUM_LAYERS = 8


def draw_scatter(predictions: Predictions, summary: dict[str, Any], *, remark: str = "") -> Figure:
    """Draw the predicted against the true age.

    Args:
        predictions: one point for each sample.
        summary: returned by `summarize`, for the title and the legend.
        remark: appended to the title, for example that genders were swapped.
    """
    figure, axes = _new_figure(f"Predicted and true age{remark}", _describe_error(summary["all"]))
    _draw_points(axes, predictions, predictions.predicted_months, summary)
    low, high = _shared_limits(predictions)
    axes.plot([low, high], [low, high], color="black", linewidth=1)
    for offset in (-12, 12):
        label = "12 months off" if offset > 0 else None
        axes.plot([low, high], [low + offset, high + offset], color="0.45", linewidth=0.8, dashes=(5, 3), label=label)
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.set(xlabel="true age in months", ylabel="predicted age in months")
    axes.yaxis.set_major_locator(_year_ticks())
    axes.xaxis.set_major_locator(_year_ticks())
    axes.legend(loc="upper left", framealpha=0.9)
    return figure


def draw_bland_altman(predictions: Predictions, summary: dict[str, Any], *, remark: str = "") -> Figure:
    """Draw the error against the mean of predicted and true age (Bland and Altman, Lancet 1986).

    The limits of agreement are 1.96 standard deviations of the errors on either side of the bias.

    Args:
        predictions: one point for each sample.
        summary: returned by `summarize`, for the legend.
        remark: appended to the title, for example that genders were swapped.
    """
    errors = signed_errors(predictions.predicted_months, predictions.age_months)
    bias, half_width = errors.mean(), _AGREEMENT_SDS * errors.std()
    limits = f"limits of agreement {bias - half_width:+.1f} and {bias + half_width:+.1f}"
    numbers = f"bias {bias:+.1f} months, {limits}, n = {len(errors):,}"
    figure, axes = _new_figure(f"Agreement of predicted and true age{remark}", numbers)
    means = predictions.age_months + errors / 2
    _draw_points(axes, predictions, errors, summary, x=means)
    axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    axes.axhline(bias, color="black", linewidth=1, label="bias")
    for level in (bias - half_width, bias + half_width):
        label = "limits of agreement" if level > bias else None
        axes.axhline(level, color="black", linewidth=0.9, dashes=(5, 3), label=label)
    y_limit = 1.15 * max(np.abs(errors).max(), half_width + abs(bias), 6.0)
    axes.set(ylim=(-y_limit, y_limit))
    axes.set(xlabel="mean of predicted and true age in months", ylabel="predicted minus true age in months")
    axes.xaxis.set_major_locator(_year_ticks())
    axes.legend(loc="upper left", ncols=2, framealpha=0.9)
    return figure


def figure_as_png(figure: Figure) -> bytes:
    """Return a figure as PNG; the same figure gives the same bytes."""
    stream = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def _new_figure(title: str, subtitle: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=INCHES, dpi=DOTS_PER_INCH, layout=ConstrainedLayoutEngine(h_pad=0.12, w_pad=0.12))
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=14, fontweight="bold", pad=26)
    axes.text(0, 1.02, subtitle.replace("-", "−"), transform=axes.transAxes, fontsize=10.5, color="0.25")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
    return figure, axes


def _describe_error(numbers: dict[str, Any]) -> str:
    interval = format_interval(numbers["mae_interval_months"], decimals=1)
    mae = f"MAE {numbers['mae_months']:.1f} months (95 % interval {interval})"
    return (
        f"{mae}, RMSE {numbers['rmse_months']:.1f}, bias {numbers['bias_months']:+.1f}, n = {numbers['num_samples']:,}"
    )


def _draw_points(
    axes: Axes,
    predictions: Predictions,
    y: NDArray[np.floating],
    summary: dict[str, Any],
    *,
    x: NDArray[np.floating] | None = None,
) -> None:
    """Draw each gender in its color and marker; the more points there are, the fainter and smaller they are.

    The points are drawn in layers that alternate between the genders, so that neither hides the other.
    """
    x = predictions.age_months if x is None else x
    density = len(y) ** 0.5
    style = {"alpha": np.clip(12 / density, 0.25, 0.8), "s": np.clip(600 / density, 6, 40), "linewidths": 0}
    members = gender_members(predictions)
    for layer in np.array_split(np.arange(len(y)), _NUM_LAYERS):
        for gender, chosen in members.items():
            color, marker = _STYLES[gender]
            drawn = layer[chosen[layer]]
            axes.scatter(x[drawn], y[drawn], color=color, marker=marker, **style)
    for gender in members:
        color, marker = _STYLES[gender]
        numbers = summary["gender"][gender]
        label = f"{_NAMES[gender]} ({gender}), MAE {numbers['mae_months']:.1f}, n = {numbers['num_samples']:,}"
        axes.scatter([], [], color=color, marker=marker, s=40, label=label)


def _shared_limits(predictions: Predictions) -> tuple[float, float]:
    """Return limits for both axes, in whole years, that include all points."""
    values = np.concatenate([predictions.age_months, predictions.predicted_months])
    return float(np.floor(values.min() / 12 - 0.5) * 12), float(np.ceil(values.max() / 12 + 0.5) * 12)


def _year_ticks() -> MaxNLocator:
    """Return a locator that places ticks every 1, 2, 5 or 10 years, depending on the range."""
    return MaxNLocator(nbins=13, steps=[1.2, 2.4, 6, 10])
