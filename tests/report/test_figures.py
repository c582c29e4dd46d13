import io
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from wds_bone.figure_style import figure_as_png
from wds_bone.inference.predictions import Predictions
from wds_bone.report.figures import MAX_VECTOR_POINTS, draw_bland_altman, draw_scatter
from wds_bone.report.metrics import summarize

Draw = Callable[..., Figure]
both_figures = pytest.mark.parametrize("draw", [draw_scatter, draw_bland_altman])


def random_predictions(num_samples: int) -> Predictions:
    generator = np.random.default_rng(num_samples)
    ages = generator.uniform(0, 228, num_samples).astype(np.float32)
    errors = generator.normal(1, 10, num_samples).astype(np.float32)
    keys = [f"k{i}" for i in range(num_samples)]
    return Predictions(keys, (np.arange(num_samples) % 2).astype(np.float32), ages, ages + errors)


def drawn_points(figure: Figure) -> np.ndarray:
    (axes,) = figure.axes
    return np.concatenate([np.asarray(points.get_offsets()) for points in axes.collections])


def texts_of(figure: Figure) -> str:
    (axes,), (legend,) = figure.axes, figure.legends
    return "\n".join(text.get_text() for text in [*axes.texts, *legend.get_texts()])


def line_named(figure: Figure, start: str) -> np.ndarray:
    """Return the ends of the line whose label begins with `start`, (2, 2)."""
    (line,) = [line for line in figure.axes[0].lines if str(line.get_label()).startswith(start)]
    return np.asarray(line.get_xydata(), np.float64)


def sorted_rows(points: np.ndarray) -> list[list[float]]:
    return sorted(points.astype(np.float64).tolist())


def test_the_scatter_plot_shows_the_true_and_predicted_age_of_every_sample() -> None:
    predictions = random_predictions(101)
    expected = np.stack([predictions.age_months, predictions.predicted_months], 1)
    assert sorted_rows(drawn_points(draw_scatter(predictions, summarize(predictions)))) == sorted_rows(expected)


def test_the_bland_altman_plot_shows_errors_against_means() -> None:
    predictions = random_predictions(101)
    true, predicted = (months.astype(np.float64) for months in (predictions.age_months, predictions.predicted_months))
    expected = np.stack([(true + predicted) / 2, predicted - true], 1)
    points = drawn_points(draw_bland_altman(predictions, summarize(predictions)))
    np.testing.assert_allclose(sorted_rows(points), sorted_rows(expected), atol=1e-4)


def test_the_lines_of_bland_and_altman_are_labeled_with_their_levels() -> None:
    predictions = random_predictions(101)
    errors = predictions.predicted_months.astype(np.float64) - predictions.age_months
    figure = draw_bland_altman(predictions, summarize(predictions))
    levels = [float(np.asarray(line.get_ydata())[0]) for line in figure.axes[0].lines[:4]]
    limits = errors.mean() + 1.96 * errors.std(ddof=1) * np.array([1, -1])
    np.testing.assert_allclose(levels, [0, errors.mean(), *limits])
    for level, name in ((errors.mean(), "bias"), (limits[0], "upper limit"), (limits[1], "lower limit")):
        assert f"{level:+.1f} {name}".replace("-", "−") in texts_of(figure)


def test_a_bias_that_rounds_to_zero_has_one_sign() -> None:
    predictions = random_predictions(50)
    predictions.predicted_months[:] = predictions.age_months - 0.01
    texts = texts_of(draw_bland_altman(predictions, summarize(predictions)))
    assert "+0.0 bias" in texts
    assert "−0.0" not in texts


@pytest.mark.parametrize("shrink", [0.0, 0.2])
def test_the_trend_is_the_least_squares_line(shrink: float) -> None:
    predictions = random_predictions(101)
    predictions.predicted_months[:] = predictions.age_months - shrink * (predictions.age_months - 100) + 1
    summary = summarize(predictions)
    (first, last) = line_named(draw_scatter(predictions, summary), "trend")
    assert (last[1] - first[1]) / (last[0] - first[0]) == pytest.approx(1 - shrink)
    assert first[1] == pytest.approx(predictions.predicted_months.min(), abs=1e-3)
    (first, last) = line_named(draw_bland_altman(predictions, summary), "trend")
    assert (last[1] - first[1]) / (last[0] - first[0]) == pytest.approx(-shrink / (1 - shrink / 2), abs=1e-6)


@both_figures
def test_the_figure_states_the_numbers_and_the_remark(draw: Draw) -> None:
    predictions = random_predictions(1200)
    summary = summarize(predictions)
    texts = texts_of(draw(predictions, summary, remark=", gender swapped"))
    assert "gender swapped" in texts
    assert "n = 1,200" in texts
    assert f"bias {summary['all']['bias_months']:+.1f}" in texts
    for name, gender in (("girls", "F"), ("boys", "M")):
        assert f"{name}: MAE {summary['gender'][gender]['mae_months']:.1f} months, n = 600" in texts


@both_figures
def test_all_points_lie_inside_the_axes(draw: Draw) -> None:
    predictions = random_predictions(50)
    predictions.predicted_months[:2] = (-60, 400)
    figure = draw(predictions, summarize(predictions))
    (axes,) = figure.axes
    for values, (low, high) in zip(drawn_points(figure).T, (axes.get_xlim(), axes.get_ylim()), strict=True):
        assert low < values.min()
        assert values.max() < high


@pytest.mark.parametrize(("youngest", "start"), [(-14, -24), (0, -12), (4, 0), (13, 0), (20, 12)])
def test_ages_start_at_zero_unless_a_point_would_be_on_the_edge(youngest: float, start: float) -> None:
    predictions = random_predictions(50)
    predictions.age_months[:] = predictions.predicted_months[:] = np.linspace(youngest, 200, 50)
    (axes,) = draw_scatter(predictions, summarize(predictions)).axes
    assert axes.get_xlim() == axes.get_ylim() == (start, 204)


@both_figures
def test_no_text_and_no_legend_covers_a_point(draw: Draw) -> None:
    predictions = random_predictions(50)
    predictions.predicted_months[:2] = (-60, 400)
    figure = draw(predictions, summarize(predictions))
    figure.draw_without_rendering()
    (axes,), (legend,) = figure.axes, figure.legends
    frame = axes.get_window_extent()
    for text in (*axes.texts, legend):
        box = text.get_window_extent()
        assert box.x0 >= frame.x1 or box.y0 >= frame.y1 or box.y1 <= frame.y0, text
        assert box.x1 <= figure.bbox.x1, text


@both_figures
@pytest.mark.parametrize("num_samples", [1, 3])
def test_the_same_predictions_give_the_same_image(draw: Draw, num_samples: int) -> None:
    predictions = random_predictions(num_samples)
    summary = summarize(predictions)
    first, second = (figure_as_png(draw(predictions, summary), dots_per_inch=50) for _ in range(2))
    assert first == second
    with Image.open(io.BytesIO(first)) as image:
        assert image.format == "PNG"


@pytest.mark.parametrize(("num_samples", "is_image"), [(MAX_VECTOR_POINTS, False), (MAX_VECTOR_POINTS + 1, True)])
def test_thousands_of_points_are_an_image_within_the_pdf(num_samples: int, is_image: bool) -> None:
    predictions = random_predictions(num_samples)
    points = draw_scatter(predictions, summarize(predictions)).axes[0].collections[0]
    assert points.get_rasterized() is is_image
