"""webdataset as its documentation shows it: `decode("rgb8")`, two workers."""

from pathlib import Path
from typing import Any

import numpy as np
import webdataset

from benchmarks.loaders import BATCH_SIZE, CORES, Epochs
from benchmarks.loaders.ours import prepare

__all__ = ["open_epochs", "prepare"]


def open_epochs(samples: Path, folder: Path, *, size: int, encoding: str) -> Epochs:
    """Return a function that yields one epoch of a WebLoader."""
    urls = sorted(str(path) for path in folder.glob("*.tar"))
    shards = webdataset.WebDataset(urls, shardshuffle=100, empty_check=False, seed=0).shuffle(1000)
    decoded = shards.decode("rgb8") if encoding != "npy" else shards.decode()
    batches = decoded.to_tuple(encoding, "json").batched(BATCH_SIZE, collation_fn=_stack)
    loader = webdataset.WebLoader(batches, batch_size=None, num_workers=CORES, persistent_workers=True)
    return lambda: loader


def _stack(samples: list[tuple[np.ndarray, dict[str, Any]]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    images, labels = zip(*samples, strict=True)
    gray = np.stack([image if image.ndim == 2 else image[:, :, 1] for image in images])
    genders = np.array([label["gender"] == "M" for label in labels], np.float32)
    return gray[:, None], genders, np.array([label["age_months"] for label in labels], np.float32)
