"""Test what a terminal shows below the table of errors."""

from typing import Any

import numpy as np
import pytest

from wds_bone.inference.predictions import Predictions
from wds_bone.report.coverage import coverage
from wds_bone.report.evaluation_text import format_evaluation
from wds_bone.report.metrics import summarize
from wds_bone.report.references import describe_references

AGES = np.linspace(20, 220, 60, dtype=np.float32)
INTERVALS = np.stack([AGES - 10, AGES + np.where(np.arange(60) < 6, -1, 14)], 1).astype(np.float32)
PREDICTIONS = Predictions(
    [str(row) for row in range(60)], (np.arange(60) % 2).astype(np.float32), AGES, AGES, INTERVALS
)


def metrics_of(*levels: float) -> dict[str, Any]:
    """Return the metrics of an evaluation of checkpoints with intervals of these levels."""
    return {
        "errors": summarize(PREDICTIONS),
        **describe_references(PREDICTIONS, train_median_months={"all": 120.0}),
        "coverage": coverage(PREDICTIONS),
        "gender_input": "true",
        "checkpoints": [{"calibration": {"level": level}} for level in levels],
    }


def test_the_coverage_of_all_samples_and_of_each_gender_is_shown_with_the_level() -> None:
    text = format_evaluation(metrics_of(0.9))
    assert "within intervals of level 0.9)" in text
    assert "all    90.0% (" in text
    assert "of 60, mean width 22.5 months" in text
    assert "girls  90.0% (" in text
    assert "means of those of the checkpoints" not in text


def test_the_intervals_of_an_ensemble_are_explained() -> None:
    text = format_evaluation(metrics_of(0.95, 0.9))
    assert "within intervals of level 0.9 and 0.95)" in text
    assert "means of those of the checkpoints" in text


@pytest.mark.parametrize("num_folds", [2, 5])
def test_the_text_has_at_most_120_columns(num_folds: int) -> None:
    run = {"mae_months": 13.25, "progress": {"best_epoch": 100}, "config": {"epochs": 120}}
    counts = dict.fromkeys(("num_samples", "num_only_here", "num_only_there"), 12_611)
    errors = dict.fromkeys(("mae_months", "against_mae_months", "mae_difference_months"), 13.25)
    against = {**counts, **errors, "mae_difference_interval_months": [-10.25, 10.25]}
    metrics = metrics_of(0.9, 0.95) | {"runs": [run] * num_folds, "against": against}
    assert max(map(len, format_evaluation(metrics).splitlines())) <= 120
