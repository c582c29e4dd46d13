from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from wds_bone.figure_style import figure_as_png
from wds_bone.report.learning_curve import MAX_LOSS_POINTS, draw_learning_curve


def step_row(step: int, loss: float, *, steps_per_epoch: int) -> dict[str, Any]:
    return {"step": step, "epoch": step / steps_per_epoch, "loss": loss}


def validation_row(epoch: int, mae_months: float) -> dict[str, Any]:
    interval = {"val_mae_low_months": mae_months - 1, "val_mae_high_months": mae_months + 1}
    return {"epoch": float(epoch), "val_mae_months": mae_months, **interval, "constant_mae_months": 33.0}


def points_of(figure: Figure, row: int, label: str) -> list[tuple[float, float]]:
    (line,) = [line for line in figure.axes[row].lines if line.get_label() == label]
    return [(float(x), float(y)) for x, y in np.asarray(line.get_xydata())]


def texts_of(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_the_best_validation_is_marked_and_named() -> None:
    figure = draw_learning_curve([validation_row(epoch, mae) for epoch, mae in enumerate((20.0, 8.0, 9.0), 1)])
    assert points_of(figure, 0, "best validation") == [(2.0, 8.0)]
    assert "best after epoch 2: MAE 8.0 months (95 % interval 7.0 to 9.0)" in texts_of(figure)
    assert {"8.0 best", "33.0 median"} <= set(texts_of(figure))


def test_a_few_losses_are_all_shown() -> None:
    rows = [step_row(step, 1 / step, steps_per_epoch=2) for step in range(1, 6)]
    expected = [(step / 2, 1 / step) for step in range(1, 6)]
    np.testing.assert_allclose(points_of(draw_learning_curve(rows), 1, "training loss"), expected)


def test_many_losses_become_medians_of_all_steps() -> None:
    num_steps = 10 * MAX_LOSS_POINTS
    losses = np.random.default_rng(0).uniform(0.1, 1, num_steps)
    rows = [step_row(step, loss, steps_per_epoch=100) for step, loss in enumerate(losses.tolist(), 1)]
    medians = [loss for _, loss in points_of(draw_learning_curve(rows), 1, "training loss")]
    assert medians == pytest.approx(np.median(losses.reshape(MAX_LOSS_POINTS, 10), axis=1))


def test_every_point_of_a_long_curve_stands_for_as_many_steps() -> None:
    """Otherwise the band would be wide where points stand for more steps, and not where the losses vary."""
    num_steps = MAX_LOSS_POINTS + 50
    rows = [step_row(step, 1 + step % 2, steps_per_epoch=1) for step in range(1, num_steps + 1)]
    points = points_of(draw_learning_curve(rows), 1, "training loss")
    assert len(points) == num_steps / 2
    assert {loss for _, loss in points} == {1.5}


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [step_row(1, 0.5, steps_per_epoch=10)],
        [validation_row(1, 170.0)],
        [*(step_row(step, 1 / step, steps_per_epoch=3) for step in range(1, 4)), validation_row(1, 6.0)],
    ],
    ids=["nothing", "one step", "one validation", "one epoch"],
)
def test_a_run_can_be_drawn_from_its_first_line_on(rows: list[dict[str, Any]]) -> None:
    assert figure_as_png(draw_learning_curve(rows), dots_per_inch=50).startswith(b"\x89PNG")


def test_times_and_rates_do_not_change_the_figure() -> None:
    rows = [step_row(1, 0.5, steps_per_epoch=10), validation_row(1, 6.0)]
    timed = [row | {"elapsed_seconds": 5.0, "images_per_second": 7.0} for row in rows]
    one, other = (figure_as_png(draw_learning_curve(lines), dots_per_inch=50) for lines in (rows, timed))
    assert one == other
