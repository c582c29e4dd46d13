"""Measure predictions, and write the files of an evaluation.

In: predictions, where their samples are from, and the models that made them.
Out: `predictions.csv`, figures as PNG and PDF, and `metrics.json`.
Invariant: every number is stored together with what it was measured on, and `metrics.json` is written last.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wds_bone.distributed.hardware import installed_versions
from wds_bone.errors import WdsBoneError
from wds_bone.figure_style import FIGURE_FORMATS, figure_files
from wds_bone.inference.ensemble import Ensemble, Member
from wds_bone.inference.labeled import GenderInput, Labeled
from wds_bone.inference.predictions import PREDICTIONS_NAME, Predictions, write_predictions
from wds_bone.inference.trained_on import trained_on_warning
from wds_bone.report.calibration import calibrated_on_warning
from wds_bone.report.coverage import coverage
from wds_bone.report.error_boxes import draw_error_boxes
from wds_bone.report.figures import draw_bland_altman, draw_scatter
from wds_bone.report.metrics import summarize
from wds_bone.report.pooling import Fold, pool_predictions
from wds_bone.report.references import describe_references
from wds_bone.storage.durable import storage_errors, write_bytes_atomically

METRICS_NAME = "metrics.json"
_FIGURES = {"scatter": draw_scatter, "bland_altman": draw_bland_altman, "error_boxes": draw_error_boxes}
RESULT_NAMES = (
    PREDICTIONS_NAME,
    *(f"{stem}.{ending}" for stem in _FIGURES for ending in FIGURE_FORMATS),
    METRICS_NAME,
)
_OF_A_CHECKPOINT = ("progress", "preprocessing", "target", "config", "versions", "order_digests", "calibration")


@dataclass(frozen=True)
class Evaluation:
    """Predictions to measure, and where they come from.

    Attributes:
        predictions: one row per sample.
        origin: a description of the samples and the models in plain JSON types, by name.
        train_median_months: the median training age, for "all", "F" and "M".
        gender_input: which genders the models were given.
        failed: the errors of the samples that could not be predicted.
        warnings: what a reader of the results must know.
    """

    predictions: Predictions
    origin: dict[str, Any]
    train_median_months: dict[str, float]
    gender_input: GenderInput = "true"
    failed: Sequence[WdsBoneError] = ()
    warnings: tuple[str, ...] = ()


def evaluation_of_ensemble(labeled: Labeled, ensemble: Ensemble, *, gender_input: GenderInput) -> Evaluation:
    """Return the evaluation of the predictions of one or more checkpoints."""
    checkpoints = [_describe_checkpoint(member) for member in ensemble.members]
    return Evaluation(
        labeled.predictions,
        {**labeled.origin, "checkpoints": checkpoints},
        _mean_medians([member.contents["train_median_months"] for member in ensemble.members]),
        gender_input,
        labeled.failed,
        (*_known_sample_warnings(labeled.predictions, ensemble), *filter(None, [ensemble.interval_warning()])),
    )


def evaluation_of_folds(folds: Sequence[Fold]) -> Evaluation:
    """Return the evaluation of the pooled predictions of a cross-validation."""
    medians = _mean_medians([fold.provenance["train_median_months"] for fold in folds])
    return Evaluation(pool_predictions(folds), {"runs": [fold.describe() for fold in folds]}, medians)


def measure(evaluation: Evaluation) -> dict[str, Any]:
    """Return the contents of `metrics.json`, without a comparison with another evaluation."""
    predictions = evaluation.predictions
    metrics = {
        "errors": summarize(predictions),
        **describe_references(predictions, train_median_months=evaluation.train_median_months),
    }
    if predictions.interval_months is not None:
        metrics["coverage"] = coverage(predictions)
    models = [described["config"]["model"] for described in evaluation.origin.get("checkpoints", ())]
    return {
        **metrics,
        "gender_input": evaluation.gender_input,
        **evaluation.origin,
        "versions": installed_versions(*models),
    }


def write_evaluation(folder: Path, predictions: Predictions, metrics: dict[str, Any]) -> list[Path]:
    """Write the files of an evaluation, each one atomically, and return their paths.

    Args:
        folder: must exist; files of the same names are replaced.
        predictions: the predictions for all samples.
        metrics: the contents of `metrics.json`; "errors" (from `summarize`) and "gender_input" appear in the figures.

    Raises:
        WdsBoneError: if a file cannot be written.
    """
    with storage_errors(folder / METRICS_NAME):
        (folder / METRICS_NAME).unlink(missing_ok=True)  # it would say that the new files are complete
    write_predictions(folder / PREDICTIONS_NAME, predictions)
    remark = "" if metrics["gender_input"] == "true" else f", gender {metrics['gender_input']}"
    for stem, draw in _FIGURES.items():
        for name, contents in figure_files(draw(predictions, metrics["errors"], remark=remark), stem).items():
            write_bytes_atomically(folder / name, contents)
    write_bytes_atomically(folder / METRICS_NAME, (json.dumps(metrics, indent=2, allow_nan=False) + "\n").encode())
    return [folder / name for name in RESULT_NAMES]


def _known_sample_warnings(predictions: Predictions, ensemble: Ensemble) -> Iterator[str]:
    """Yield a warning for each checkpoint that was, or may have been, trained or calibrated on some of the samples."""
    columns = predictions.key, predictions.gender, predictions.age_months
    for member in ensemble.members:
        if warning := trained_on_warning(member.contents, *columns, where=member.path):
            yield warning
        if warning := calibrated_on_warning(member.contents, predictions, where=member.path):
            yield warning


def _mean_medians(medians: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return what an ensemble of models predicts that always predict the median age of their training samples."""
    groups = {name: [one[name] for one in medians if name in one] for name in ("all", "F", "M")}
    return {name: float(np.mean(ages)) for name, ages in groups.items() if ages}


def _describe_checkpoint(member: Member) -> dict[str, Any]:
    """Return a description of a model, in plain JSON types."""
    contents = {name: member.contents[name] for name in _OF_A_CHECKPOINT}
    return {"sha256": member.sha256, "views": member.predictor.views, **contents}
