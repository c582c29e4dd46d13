"""Give all figures one look, and turn them into files.

In: a title, or a figure.
Out: an empty figure, or the bytes of its PNG and its PDF.
Invariant: the same figure gives the same bytes. Figures are made without pyplot, so they can be drawn in any thread.
"""

import io
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MultipleLocator

GENDER_COLORS = {"F": "#DD7A1E", "M": "#0B3C6F"}
"""Orange and dark blue: color-blind readers can tell them apart, and in gray print one is much lighter."""
GENDER_MARKERS = {"F": "o", "M": "^"}
INK, FAINT_INK, TREND_COLOR = "#222222", "#777777", "#007A57"
INCHES = (5.5, 5.7)
"""One and a half columns of a journal. The smallest text is still 5 points high if it is printed in one column."""
SCREEN_DOTS_PER_INCH, PRINT_DOTS_PER_INCH = 150, 300
TITLE_POINTS, TEXT_POINTS, SMALL_POINTS = 11, 9, 8.5
LINE_INCHES = 0.2
TICK_MONTHS, MAX_AGE_TICKS = 24, 15
MIN_ERROR_MONTHS = 6.0
ERROR_TICK_MONTHS, MAX_ERROR_TICKS = (1, 2, 3, 6, 12, 24), 12
_SUBTITLE_OFFSET, _TITLE_OFFSET = 20, 34
FIGURE_FORMATS = ("png", "pdf")
_embedding = threading.Lock()


def new_figure(
    title: str, subtitle: str, *, num_rows: int = 1, inches: tuple[float, float] = INCHES
) -> tuple[Figure, list[Axes]]:
    """Return a figure with a title in bold, a line of numbers, and `num_rows` empty axes that share the x-axis."""
    layout = ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.08)
    figure = Figure(figsize=inches, dpi=SCREEN_DOTS_PER_INCH, layout=layout)
    rows: list[Axes] = list(figure.subplots(num_rows, 1, sharex=True, squeeze=False)[:, 0])
    for text, offset, style in (
        (title, _TITLE_OFFSET, {"fontsize": TITLE_POINTS, "fontweight": "bold"}),
        (subtitle, _SUBTITLE_OFFSET, {"fontsize": SMALL_POINTS, "color": INK}),
    ):
        place = {"xy": (0, 1), "xycoords": "axes fraction", "xytext": (0, offset), "textcoords": "offset points"}
        rows[0].annotate(with_minus_signs(text), **place, **style)  # type: ignore[arg-type]
    for axes in rows:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="0.92", linewidth=0.6)
        axes.tick_params(labelsize=SMALL_POINTS, color=FAINT_INK)
        axes.set_axisbelow(True)
    return figure, rows


def label_axes(axes: Axes, *, x: str | None = None, y: str | None = None) -> None:
    """Write what an axis shows, with its unit; None leaves it as it is."""
    if x is not None:
        axes.set_xlabel(x, fontsize=TEXT_POINTS)
    if y is not None:
        axes.set_ylabel(y, fontsize=TEXT_POINTS)


def label_levels(axes: Axes, labels: Mapping[float, str]) -> None:
    """Write a few words next to the right ends of horizontal lines, outside the axes, without overlaps.

    Args:
        axes: the axes with the lines; their limits must be final.
        labels: the text for each height of a line.
    """
    levels = sorted(labels)
    gap = LINE_INCHES * axes.figure.dpi / axes.bbox.height
    to_fraction = axes.transData + axes.transAxes.inverted()
    heights = _spread([float(to_fraction.transform((0, level))[1]) for level in levels], gap)
    for level, height in zip(levels, heights, strict=True):
        place = {"xycoords": "axes fraction", "textcoords": "offset points", "xytext": (4, 0), "va": "center"}
        axes.annotate(with_minus_signs(labels[level]), (1, height), fontsize=SMALL_POINTS, **place)  # type: ignore[arg-type]


def label_top(axes: Axes, x: float, text: str) -> None:
    """Write a few words above the axes, where a line leaves them."""
    place = {"xycoords": axes.get_xaxis_transform(), "textcoords": "offset points", "xytext": (0, 3), "ha": "center"}
    axes.annotate(with_minus_signs(text), (x, 1), fontsize=SMALL_POINTS, **place)  # type: ignore[arg-type]


def _spread(heights: list[float], gap: float) -> list[float]:
    """Return ascending heights that differ by at least `gap`; the one in the middle stays."""
    middle = len(heights) // 2
    spread = list(heights)
    for index in range(middle + 1, len(heights)):
        spread[index] = max(spread[index], spread[index - 1] + gap)
    for index in reversed(range(middle)):
        spread[index] = min(spread[index], spread[index + 1] - gap)
    return spread


def add_legend(figure: Figure, *, num_columns: int = 2) -> None:
    """Explain everything that has a label, in a strip below the axes, where it hides nothing."""
    style = {"frameon": False, "fontsize": SMALL_POINTS, "borderaxespad": 0, "handlelength": 3}
    figure.legend(loc="outside lower center", ncols=num_columns, **style)


def set_age_ticks(axis: Axis) -> None:
    """Place ticks every 24 months, or every few times 24 months if there would be more than 15."""
    _set_ticks(axis, (TICK_MONTHS,), max_ticks=MAX_AGE_TICKS)


def set_error_limits(axes: Axes, *months: float) -> None:
    """Show errors on either side of zero, up to the largest of `months` and at least up to half a year.

    The ticks divide a year, or are whole multiples of two years.
    """
    limit = 1.1 * max(MIN_ERROR_MONTHS, *map(abs, months))
    axes.set_ylim(-limit, limit)
    _set_ticks(axes.yaxis, ERROR_TICK_MONTHS, max_ticks=MAX_ERROR_TICKS)


def _set_ticks(axis: Axis, steps: Sequence[int], *, max_ticks: int) -> None:
    """Use the first of `steps`, in months, that gives few enough ticks, or else a multiple of 24 months."""
    low, high = axis.get_view_interval()
    fitting = (step for step in steps if high - low <= step * max_ticks)
    multiple = int(np.ceil((high - low) / TICK_MONTHS / max_ticks))
    axis.set_major_locator(MultipleLocator(next(fitting, TICK_MONTHS * multiple)))


def with_minus_signs(text: str) -> str:
    """Return `text` with minus signs instead of hyphens in front of numbers."""
    return re.sub(r"(?<!\w)-(?=\d)", "−", text)


def figure_files(figure: Figure, stem: str) -> dict[str, bytes]:
    """Return the files of a figure by name: `<stem>.png`, at 300 dots per inch, and `<stem>.pdf`."""
    contents = (figure_as_png(figure), figure_as_pdf(figure))
    return {f"{stem}.{ending}": file for ending, file in zip(FIGURE_FORMATS, contents, strict=True)}


def figure_as_png(figure: Figure, *, dots_per_inch: int = PRINT_DOTS_PER_INCH) -> bytes:
    """Return a figure as PNG; its resolution is changed to `dots_per_inch`."""
    stream = io.BytesIO()
    figure.set_dpi(dots_per_inch)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.print_png(stream, metadata={"Software": None})  # `savefig` would draw twice for the same bytes
    return stream.getvalue()


def figure_as_pdf(figure: Figure) -> bytes:
    """Return a figure as PDF, with its fonts embedded as TrueType; journals refuse the default, Type 3."""
    stream = io.BytesIO()
    figure.set_dpi(PRINT_DOTS_PER_INCH)  # of what is an image within the PDF
    canvas: Any = FigureCanvasPdf(figure)
    with _truetype_fonts():
        canvas.print_pdf(stream, metadata={"CreationDate": None})
    return stream.getvalue()


@contextmanager
def _truetype_fonts() -> Iterator[None]:
    """Set what Matplotlib has only for the whole process, for one thread at a time; it affects nothing but PDFs."""
    with _embedding:
        before = mpl.rcParams["pdf.fonttype"]
        mpl.rcParams["pdf.fonttype"] = 42
        try:
            yield
        finally:
            mpl.rcParams["pdf.fonttype"] = before
