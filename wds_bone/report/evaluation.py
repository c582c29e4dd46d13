"""Write the files of an evaluation.

In: predictions and their origin.
Out: `predictions.csv`, figures as PNG and PDF, and `metrics.json`.
Invariant: every number is stored together with what it was measured on, and `metrics.json` is written last.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from wds_bone.figure_style import FIGURE_FORMATS, figure_files
from wds_bone.inference.predictions import Predictions, write_predictions
from wds_bone.report.error_boxes import draw_error_boxes
from wds_bone.report.figures import draw_bland_altman, draw_scatter
from wds_bone.storage.durable import write_bytes_atomically
from wds_bone.stream.order import order_key, sample_at
from wds_bone.stream.stream import BoneAgeStream

GenderInput = Literal["true", "shuffled", "swapped"]
PREDICTIONS_NAME, METRICS_NAME = "predictions.csv", "metrics.json"
_FIGURES = {"scatter": draw_scatter, "bland_altman": draw_bland_altman, "error_boxes": draw_error_boxes}
RESULT_NAMES = (
    PREDICTIONS_NAME,
    *(f"{stem}.{ending}" for stem in _FIGURES for ending in FIGURE_FORMATS),
    METRICS_NAME,
)
_SHUFFLE_SEED = 0


def override_genders(stream: BoneAgeStream, gender_input: GenderInput) -> NDArray[np.float32]:
    """Return the gender that the model receives for each sample, float32 (n,), 1 male, in the order of the shards.

    Shuffling does not change the numbers of girls and boys, and is a function of the shards.
    """
    genders: NDArray[np.float32] = stream.genders.astype(np.float32)
    if gender_input == "swapped":
        genders = 1 - genders
    if gender_input == "shuffled":
        key = order_key(stream.order_digest, _SHUFFLE_SEED)
        genders = genders[sample_at(np.arange(stream.num_samples), stream.num_samples, key=key)]
    return genders


def describe_shards(stream: BoneAgeStream, *, split: str | None) -> dict[str, Any]:
    """Return a description of the predicted samples, in plain JSON types."""
    return {
        "split": split,
        "num_samples": stream.num_samples,
        "order_digest": stream.order_digest,
        "image_format": asdict(stream.image_format),
    }


def describe_checkpoint(contents: dict[str, Any], *, sha256: str) -> dict[str, Any]:
    """Return a description of the model, in plain JSON types; `sha256` is that of the whole file."""
    names = ("progress", "preprocessing", "target", "config", "versions", "order_digests")
    return {"sha256": sha256, **{name: contents[name] for name in names}}


def write_evaluation(folder: Path, predictions: Predictions, metrics: dict[str, Any]) -> list[Path]:
    """Write the files of an evaluation, each one atomically, and return their paths.

    Args:
        folder: must exist; files of the same names are replaced.
        predictions: the predictions for all samples.
        metrics: the contents of `metrics.json`; "errors" (from `summarize`) and "gender_input" appear in the figures.

    Raises:
        WdsBoneError: if a file cannot be written.
    """
    remark = "" if metrics["gender_input"] == "true" else f", gender {metrics['gender_input']}"
    write_predictions(folder / PREDICTIONS_NAME, predictions)
    for stem, draw in _FIGURES.items():
        for name, contents in figure_files(draw(predictions, metrics["errors"], remark=remark), stem).items():
            write_bytes_atomically(folder / name, contents)
    text = json.dumps(metrics, indent=2, allow_nan=False) + "\n"
    write_bytes_atomically(folder / METRICS_NAME, text.encode())
    return [folder / name for name in RESULT_NAMES]
