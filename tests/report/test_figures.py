import io
import threading
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from wds_bone.inference.predictions import Predictions
from wds_bone.report.figures import draw_bland_altman, draw_scatter, figure_as_png
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
    (axes,) = figure.axes
    legend = axes.get_legend()
    assert legend is not None
    texts = [axes.get_title(loc="left"), *(text.get_text() for text in [*axes.texts, *legend.get_texts()])]
    return "\n".join(texts)


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


def test_the_limits_of_agreement_are_1_96_standard_deviations_from_the_bias() -> None:
    predictions = random_predictions(101)
    errors = predictions.predicted_months.astype(np.float64) - predictions.age_months
    (axes,) = draw_bland_altman(predictions, summarize(predictions)).axes
    levels = sorted(float(line.get_ydata()[0]) for line in axes.lines)  # type: ignore[index]
    limits = [errors.mean() - 1.96 * errors.std(), errors.mean(), errors.mean() + 1.96 * errors.std()]
    np.testing.assert_allclose(levels, sorted([0.0, *limits]))


@both_figures
def test_the_figure_states_the_numbers_and_the_remark(draw: Draw) -> None:
    predictions = random_predictions(1200)
    summary = summarize(predictions)
    texts = texts_of(draw(predictions, summary, remark=", gender swapped"))
    assert "gender swapped" in texts
    assert "n = 1,200" in texts
    assert f"bias {summary['all']['bias_months']:+.1f}" in texts
    for name, gender in (("girls", "F"), ("boys", "M")):
        assert f"{name} ({gender}), MAE {summary['gender'][gender]['mae_months']:.1f}, n = 600" in texts


@both_figures
def test_all_points_lie_inside_the_axes(draw: Draw) -> None:
    predictions = random_predictions(50)
    predictions.predicted_months[:2] = (-60, 400)
    figure = draw(predictions, summarize(predictions))
    (axes,) = figure.axes
    for values, (low, high) in zip(drawn_points(figure).T, (axes.get_xlim(), axes.get_ylim()), strict=True):
        assert low < values.min()
        assert values.max() < high


@both_figures
@pytest.mark.parametrize("num_samples", [1, 2, 30])
def test_the_same_predictions_give_the_same_image(draw: Draw, num_samples: int) -> None:
    predictions = random_predictions(num_samples)
    first, second = (figure_as_png(draw(predictions, summarize(predictions))) for _ in range(2))
    assert first == second
    with Image.open(io.BytesIO(first)) as image:
        assert image.format == "PNG"
        assert min(image.size) > 900


@both_figures
def test_a_figure_can_be_drawn_in_any_thread_without_changing_the_settings_of_matplotlib(draw: Draw) -> None:
    settings: dict[str, Any] = dict(mpl.rcParams)
    predictions = random_predictions(20)
    images: list[bytes] = []
    thread = threading.Thread(target=lambda: images.append(figure_as_png(draw(predictions, summarize(predictions)))))
    thread.start()
    thread.join(timeout=60)
    assert images == [figure_as_png(draw(predictions, summarize(predictions)))]
    assert dict(mpl.rcParams) == settings
