"""Draw how large the errors are at which age, for girls and boys.

In: predictions.
Out: a figure.
Invariant: every sample is in the figure, in a box or as a point; fewer than 20 are shown as points only.
"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from wds_bone.figure_style import (
    FAINT_INK,
    GENDER_COLORS,
    GENDER_MARKERS,
    SMALL_POINTS,
    add_legend,
    label_axes,
    new_figure,
    set_error_limits,
)
from wds_bone.inference.predictions import Predictions
from wds_bone.labels.values import GENDER_NAMES
from wds_bone.report.metrics import FEW_SAMPLES, band_members, gender_members, signed_errors

_WHISKER_PERCENTILES = (5, 95)
_DISTANCE = 0.4
_WIDTH, _PAD_POINTS = 0.34, 4
_EXPLANATION = f"median, quartiles, 5th and 95th percentile; points: beyond, or n < {FEW_SAMPLES}"

Members = NDArray[np.bool_]


def draw_error_boxes(predictions: Predictions, summary: dict[str, Any], *, remark: str = "") -> Figure:
    """Draw the errors of each age band and gender: the median, quartiles, 5th and 95th percentile, and all beyond.

    Args:
        predictions: the errors of all samples are in the figure.
        summary: returned by `summarize`, for the legend.
        remark: appended to the title, for example that genders were swapped.
    """
    figure, (axes,) = new_figure(f"Error by true age{remark}", _EXPLANATION)
    errors = signed_errors(predictions.predicted_months, predictions.age_months)
    bands, genders = band_members(predictions), gender_members(predictions)
    axes.axhline(0, color=FAINT_INK, linewidth=0.8, zorder=0)
    for position, in_band in enumerate(bands.values()):
        for number, (gender, of_gender) in enumerate(genders.items()):
            x = position + _DISTANCE * (number - (len(genders) - 1) / 2)
            _draw_group(axes, x, errors[in_band & of_gender], gender=gender)
    set_error_limits(axes, errors.min(), errors.max())
    _write_counts(axes, bands, genders)
    label_axes(axes, x="true age in years, and number of samples", y="predicted minus true age in months")
    for gender in genders:
        mae_months = summary["gender"][gender]["mae_months"]
        label = f"{GENDER_NAMES[gender]}: MAE {mae_months:.1f} months"
        axes.scatter([], [], color=GENDER_COLORS[gender], marker="s", s=50, label=label)
    add_legend(figure)
    return figure


def _draw_group(axes: Axes, x: float, errors: NDArray[np.float64], *, gender: str) -> None:
    """Draw the errors in months of one group, (n,), around the position `x`; few as points, more as a box."""
    if not len(errors):
        return
    color, marker = GENDER_COLORS[gender], GENDER_MARKERS[gender]
    if len(errors) < FEW_SAMPLES:
        across = x + _WIDTH * (np.arange(len(errors)) + 0.5 - len(errors) / 2) / FEW_SAMPLES
        axes.scatter(across, errors, color=color, marker=marker, s=14, linewidths=0)
    else:
        points = {"marker": marker, "markerfacecolor": color, "markersize": 3, "markeredgewidth": 0, "alpha": 0.6}
        axes.boxplot(
            errors,
            positions=[x],
            widths=_WIDTH,
            whis=_WHISKER_PERCENTILES,
            manage_ticks=False,
            patch_artist=True,
            boxprops={"facecolor": color, "edgecolor": color},
            medianprops={"color": "white", "linewidth": 1.8},
            whiskerprops={"color": color},
            capprops={"color": color},
            flierprops=points,
        )


def _write_counts(axes: Axes, bands: dict[str, Members], genders: dict[str, Members]) -> None:
    """Write below each age band how many girls and boys it has, like the table below a survival curve."""
    columns = [
        "\n".join([band.replace("-", "–"), *(f"{(in_band & chosen).sum():,}" for chosen in genders.values())])
        for band, in_band in bands.items()
    ]
    axes.set_xticks(range(len(bands)), columns)
    axes.tick_params("x", length=0, pad=_PAD_POINTS)
    axes.set_xlim(-0.6, len(bands) - 0.4)
    axes.grid(visible=False, axis="x")
    rows = "\n".join(["years", *(GENDER_NAMES[gender] for gender in genders)])
    axes.annotate(
        rows,
        (0, 0),
        xycoords="axes fraction",
        xytext=(-5, -_PAD_POINTS),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=SMALL_POINTS,
    )
