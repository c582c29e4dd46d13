"""An evaluation -> the files that keep it.

In come predictions and where they came from, out go a table, two pictures and `metrics.json`. The invariant: every
number stands beside what it was measured on, and `metrics.json` is written last.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from wds_bone.learn.validate import Predictions
from wds_bone.report.figures import draw_bland_altman, draw_scatter, figure_as_png
from wds_bone.report.predictions import write_predictions
from wds_bone.storage.durable import publish_bytes
from wds_bone.stream.order import order_key, sample_at
from wds_bone.stream.stream import BoneAgeStream

Told = Literal["true", "shuffled", "swapped"]
PREDICTIONS_NAME, METRICS_NAME = "predictions.csv", "metrics.json"
SCATTER_NAME, BLAND_ALTMAN_NAME = "scatter.png", "bland_altman.png"
_SHUFFLE_SEED = 0


def tell_genders(stream: BoneAgeStream, told: Told) -> NDArray[np.float32]:
    """Return what the model is to be told of each sample's gender, float32 (n,), 1 male, in the order of the shards.

    Shuffled genders keep their numbers of girls and boys; the shuffle is a function of the shards.
    """
    genders: NDArray[np.float32] = stream.genders.astype(np.float32)
    if told == "swapped":
        genders = 1 - genders
    if told == "shuffled":
        key = order_key(stream.order_digest, _SHUFFLE_SEED)
        genders = genders[sample_at(np.arange(stream.num_samples), stream.num_samples, key=key)]
    return genders


def describe_shards(stream: BoneAgeStream, *, split: str | None) -> dict[str, Any]:
    """Return what the predictions were made of, in plain JSON types."""
    return {
        "split": split,
        "num_samples": stream.num_samples,
        "order_digest": stream.order_digest,
        "image_format": asdict(stream.image_format),
    }


def describe_checkpoint(contents: dict[str, Any], *, sha256: str) -> dict[str, Any]:
    """Return what the predictions were made by, in plain JSON types; `sha256` is that of the whole file."""
    kept = ("progress", "preprocessing", "target", "config", "versions", "order_digests")
    return {"sha256": sha256, **{name: contents[name] for name in kept}}


def write_evaluation(folder: Path, predictions: Predictions, metrics: dict[str, Any]) -> list[Path]:
    """Write the files of an evaluation, each one atomically, and return their paths.

    Args:
        folder: exists; files of the same names are replaced.
        predictions: what was predicted.
        metrics: in plain JSON types; its "errors" (from `summarize`) and "told_gender" go into the pictures.

    Raises:
        WdsBoneError: the disk refuses.
    """
    remark = "" if metrics["told_gender"] == "true" else f", gender {metrics['told_gender']}"
    paths = [folder / name for name in (PREDICTIONS_NAME, SCATTER_NAME, BLAND_ALTMAN_NAME, METRICS_NAME)]
    write_predictions(paths[0], predictions)
    for path, draw in zip(paths[1:3], (draw_scatter, draw_bland_altman), strict=True):
        publish_bytes(path, figure_as_png(draw(predictions, metrics["errors"], remark=remark)))
    publish_bytes(paths[3], (json.dumps(metrics, indent=2, allow_nan=False) + "\n").encode())
    return paths
