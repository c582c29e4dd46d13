"""The contents of the smallest checkpoint that every command accepts."""

from typing import Any

from wds_bone.model.preprocess import plan_preprocessing
from wds_bone.shards.manifest import ImageFormat


def complete_contents(**more: Any) -> dict[str, Any]:
    """Return the contents of a checkpoint of an untrained model without weights; `more` replaces or adds entries."""
    contents = {
        "config": {"model": "none"},
        "versions": {"wds_bone": "0.0"},
        "order_digests": {"train": "a", "val": "b"},
        "train_median_months": {"all": 120.0, "F": 110.0, "M": 130.0},
        "progress": {"step": 7},
        "preprocessing": plan_preprocessing(ImageFormat("png", 32, 32, None, "letterbox"), None).to_json(),
        "target": {"mean_months": 120.0, "sd_months": 40.0},
        "ema": {},
        "calibration": None,
        "trained_on": None,
        "stream": {},
        "model": {},
        "optimizer": {},
        "clock": {"elapsed_seconds": 0.0},
    }
    return contents | more
