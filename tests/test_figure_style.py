import io
import threading
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from wds_bone.figure_style import (
    GENDER_COLORS,
    add_legend,
    figure_as_pdf,
    figure_files,
    label_axes,
    label_levels,
    new_figure,
    set_age_ticks,
    set_error_limits,
)


def example_figure() -> Figure:
    figure, (axes,) = new_figure("A title", "bias -0.5 months")
    axes.scatter([0, 100], [1, 2], label="points")
    axes.set_ylim(0, 10)
    label_levels(axes, {1.0: "low -1", 1.01: "middle", 9.0: "high"})
    label_axes(axes, x="age in months", y="error in months")
    add_legend(figure)
    return figure


def test_a_figure_is_a_png_of_300_dots_per_inch_and_a_pdf() -> None:
    files = figure_files(example_figure(), "example")
    assert list(files) == ["example.png", "example.pdf"]
    with Image.open(io.BytesIO(files["example.png"])) as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        assert image.width == 5.5 * 300
    assert files["example.pdf"].startswith(b"%PDF-")


def test_the_same_figure_gives_the_same_files() -> None:
    one, other = (figure_files(example_figure(), "one") for _ in range(2))
    assert one == other


def test_a_pdf_has_truetype_fonts_and_no_date() -> None:
    contents = figure_as_pdf(example_figure())
    assert b"/FontFile2" in contents
    assert b"/Type3" not in contents
    assert b"CreationDate" not in contents


def test_figures_are_written_in_any_thread_without_changing_the_settings_of_matplotlib() -> None:
    settings: dict[str, Any] = dict(mpl.rcParams)
    found: list[dict[str, bytes]] = []
    threads = [threading.Thread(target=lambda: found.append(figure_files(example_figure(), "one"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(found) == 2
    assert found[0] == found[1]
    assert dict(mpl.rcParams) == settings


def test_the_legend_is_below_the_axes_and_labels_of_levels_do_not_overlap() -> None:
    figure = example_figure()
    figure.draw_without_rendering()
    (axes,), (legend,) = figure.axes, figure.legends
    assert legend.get_window_extent().y1 < axes.get_window_extent().y0
    labels = [text for text in axes.texts if text.get_text() in ("low −1", "middle", "high")]
    boxes = sorted((text.get_window_extent() for text in labels), key=lambda box: box.y0)
    assert len(boxes) == 3
    assert all(lower.y1 <= upper.y0 for lower, upper in pairwise(boxes))
    assert all(box.x0 >= axes.get_window_extent().x1 for box in boxes)


@pytest.mark.parametrize(("years", "step_months"), [(2, 24), (20, 24), (29, 24), (31, 48), (900, 24 * 30)])
def test_ages_have_ticks_every_two_years_unless_there_are_too_many(years: int, step_months: int) -> None:
    _, (axes,) = new_figure("A title", "")
    axes.set_xlim(0, 12 * years)
    set_age_ticks(axes.xaxis)
    assert set(np.diff(axes.get_xticks())) == {step_months}


@pytest.mark.parametrize(
    ("largest_months", "step_months"), [(0.5, 2), (15, 3), (20, 6), (60, 12), (122, 24), (400, 96), (1e30, None)]
)
def test_errors_have_ticks_that_divide_a_year_or_are_multiples_of_two_years(
    largest_months: float, step_months: int | None
) -> None:
    _, (axes,) = new_figure("A title", "")
    set_error_limits(axes, largest_months, -1)
    low, high = axes.get_ylim()
    assert -low == high > largest_months
    ticks = axes.get_yticks()
    assert len(ticks) <= 15
    assert step_months is None or set(np.diff(ticks)) == {step_months}


def test_the_colors_of_girls_and_boys_differ_in_gray_print() -> None:
    girls, boys = (Image.new("RGB", (1, 1), color).convert("L").getpixel((0, 0)) for color in GENDER_COLORS.values())
    assert isinstance(girls, int)
    assert isinstance(boys, int)
    assert girls - boys > 75
