"""Draw how the error of the validations and the training loss develop.

In: the lines of `metrics.jsonl`.
Out: a figure.
Invariant: the figure is a function of the lines; their times and rates are not used.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, ScalarFormatter
from numpy.typing import NDArray

from wds_bone.figure_style import FAINT_INK, INK, add_legend, label_axes, label_levels, new_figure

Row = Mapping[str, Any]
MAX_LOSS_POINTS = 200
WIDE_RATIO = 4
"""From this ratio of the limits on, ticks of equal distance would be crowded at the upper end."""
_INCHES = (5.5, 5.0)


def draw_learning_curve(rows: Sequence[Row], *, title: str = "Learning curve") -> Figure:
    """Draw the validation error and the training loss against the epoch, on logarithmic scales.

    The error of a validation has its 95 % interval, and is compared with the constant predictor. Of a loss with more
    than 200 points, each point is the median of as many steps as needed, and a band reaches from the 10th to the 90th
    percentile.

    Args:
        rows: the lines of `metrics.jsonl`, of steps and validations, in the order of the file; there may be none.
        title: the name of the run, for example.
    """
    validations = [row for row in rows if "val_mae_months" in row]
    steps = [row for row in rows if "loss" in row]
    figure, (upper, lower) = new_figure(title, _describe_best(validations), num_rows=2, inches=_INCHES)
    _draw_validations(upper, validations)
    _draw_losses(lower, _column(steps, "epoch"), _column(steps, "loss"))
    label_axes(upper, y="validation MAE\nin months")
    label_axes(lower, x="epoch", y="training loss")
    lower.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    lower.set_xlim(0, 1.03 * max([1.0, *(float(row["epoch"]) for row in (*steps, *validations))]))
    figure.align_ylabels()
    if validations or steps:
        add_legend(figure, num_columns=2)
    return figure


def _describe_best(validations: Sequence[Row]) -> str:
    if not validations:
        return "no validation yet"
    best = min(validations, key=_mae)
    interval = f"{best['val_mae_low_months']:.1f} to {best['val_mae_high_months']:.1f}"
    return f"best after epoch {int(best['epoch'])}: MAE {_mae(best):.1f} months (95 % interval {interval})"


def _mae(row: Row) -> float:
    return float(row["val_mae_months"])


def _draw_validations(axes: Axes, validations: Sequence[Row]) -> None:
    if not validations:
        return
    epochs, errors, low, high = (
        _column(validations, name) for name in ("epoch", "val_mae_months", "val_mae_low_months", "val_mae_high_months")
    )
    axes.errorbar(
        epochs,
        errors,
        yerr=(errors - low, high - errors),
        color=INK,
        linewidth=1.2,
        elinewidth=0.8,
        capsize=2,
        marker="o",
        markersize=3,
        label="validation, 95 % interval",
    )
    best = min(validations, key=_mae)
    axes.plot(best["epoch"], _mae(best), "D", color=INK, markersize=6, label="best validation")
    constant = float(validations[-1]["constant_mae_months"])
    axes.axhline(constant, color=FAINT_INK, linewidth=0.9, dashes=(5, 3), label="always the median training age")
    _use_log_scale(axes)
    label_levels(axes, {constant: f"{constant:.1f} median", _mae(best): f"{_mae(best):.1f} best"})


def _draw_losses(axes: Axes, epochs: NDArray[np.float64], losses: NDArray[np.float64]) -> None:
    if not len(losses):
        return
    # Parts of one size: otherwise, the band would be wide where the parts are large, whatever the losses are.
    size = -(-len(losses) // MAX_LOSS_POINTS)
    parts = [slice(start, start + size) for start in range(0, len(losses), size)]
    centers = [epochs[part].mean() for part in parts]
    low, median, high = np.transpose([np.quantile(losses[part], (0.1, 0.5, 0.9)) for part in parts])
    if len(losses) > MAX_LOSS_POINTS:
        axes.fill_between(centers, low, high, color=FAINT_INK, alpha=0.3, linewidth=0, label="80 % of the steps")
    axes.plot(centers, median, color=FAINT_INK, linewidth=1.0, label="training loss")
    _use_log_scale(axes)


def _use_log_scale(axes: Axes) -> None:
    """Use a logarithmic scale with plain numbers: errors fall by a constant factor rather than by a constant amount."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    is_wide = high > WIDE_RATIO * low
    axes.yaxis.set_major_locator(
        LogLocator(subs=(1, 2, 3, 5, 7)) if is_wide else MaxNLocator(nbins=6, steps=[1, 2, 5, 10])
    )
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_locator(NullLocator())


def _column(rows: Sequence[Row], name: str) -> NDArray[np.float64]:
    return np.array([row[name] for row in rows], np.float64)
