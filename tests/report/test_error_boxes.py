import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch

from tests.report.test_figures import random_predictions
from wds_bone.figure_style import figure_as_png
from wds_bone.inference.predictions import Predictions
from wds_bone.report.error_boxes import draw_error_boxes
from wds_bone.report.metrics import FEW_SAMPLES, summarize


def predictions_of(errors: np.ndarray, *, gender: str = "F", age_months: float = 90) -> Predictions:
    """Return predictions for samples of one gender and age."""
    ages = np.full(len(errors), age_months, np.float32)
    genders = np.full(len(errors), float(gender == "M"), np.float32)
    return Predictions([f"k{i}" for i in range(len(errors))], genders, ages, (ages + errors).astype(np.float32))


def draw(predictions: Predictions) -> Figure:
    return draw_error_boxes(predictions, summarize(predictions))


def drawn_errors(figure: Figure) -> list[float]:
    """Return the heights of all single points, in ascending order."""
    (axes,) = figure.axes
    scattered = [float(y) for points in axes.collections for _, y in np.asarray(points.get_offsets())]
    beyond = [float(y) for line in axes.lines if line.get_marker() in ("o", "^") for y in np.asarray(line.get_ydata())]
    return sorted(scattered + beyond)


def test_a_box_shows_the_quartiles_and_the_samples_beyond_the_whiskers() -> None:
    errors = np.arange(-50, 51, dtype=np.float64)
    figure = draw(predictions_of(errors))
    (box,) = [patch for patch in figure.axes[0].patches if isinstance(patch, PathPatch)]
    heights = box.get_path().vertices[:, 1]
    assert (heights.min(), heights.max()) == (-25, 25)
    assert drawn_errors(figure) == [error for error in errors if abs(error) > 45]


def test_fewer_than_20_samples_are_points_without_a_box() -> None:
    errors = np.linspace(-10, 9, FEW_SAMPLES - 1)
    figure = draw(predictions_of(errors))
    assert not figure.axes[0].patches
    np.testing.assert_allclose(drawn_errors(figure), errors, atol=1e-5)


def test_the_samples_of_each_band_and_gender_are_counted_below_it() -> None:
    girls = predictions_of(np.zeros(1200), age_months=90)
    boys = predictions_of(np.zeros(3), gender="M", age_months=150)
    columns = (np.concatenate(pair) for pair in zip(*(_columns(part) for part in (girls, boys)), strict=True))
    figure = draw(Predictions(girls.key + boys.key, *columns))
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["5–10\n1,200\n0", "12–15\n0\n3"]
    assert "years\ngirls\nboys" in [text.get_text() for text in figure.axes[0].texts]


def test_all_texts_are_inside_the_figure() -> None:
    figure = draw(random_predictions(60))
    figure.draw_without_rendering()
    assert all(text.get_window_extent().x1 <= figure.bbox.x1 for text in figure.axes[0].texts)


@pytest.mark.parametrize("num_samples", [1, 60])
def test_any_number_of_predictions_can_be_drawn_and_gives_the_same_image(num_samples: int) -> None:
    predictions = random_predictions(num_samples)
    one, other = (figure_as_png(draw(predictions), dots_per_inch=50) for _ in range(2))
    assert one == other


def _columns(predictions: Predictions) -> tuple[np.ndarray, ...]:
    return predictions.gender, predictions.age_months, predictions.predicted_months
