"""webdataset as an expert would set it up: gray decoding in a map, batches made in two persistent workers."""

import json
from pathlib import Path

import numpy as np
import webdataset

from benchmarks.loaders import BATCH_SIZE, CORES, Epochs
from benchmarks.loaders.decoding import decode_gray
from benchmarks.loaders.ours import prepare

__all__ = ["open_epochs", "prepare"]


def open_epochs(samples: Path, folder: Path, *, size: int, encoding: str) -> Epochs:
    """Return a function that yields one epoch of a WebLoader."""
    return _open(sorted(str(path) for path in folder.glob("*.tar")), encoding)


def open_remote(source: str, cache: str) -> Epochs:
    """Return a function that yields one epoch over the JPEG images in the shards that a brace pattern of URLs names."""
    return _open(source, "jpg")


def _open(urls: str | list[str], encoding: str) -> Epochs:
    def decode(sample: dict[str, bytes]) -> tuple[np.ndarray, float, float]:
        label = json.loads(sample["json"])
        return decode_gray(sample[encoding], encoding), float(label["gender"] == "M"), label["age_months"]

    shards = webdataset.WebDataset(urls, shardshuffle=100, empty_check=False, seed=0).shuffle(1000)
    batches = shards.map(decode).batched(BATCH_SIZE)
    loader = webdataset.WebLoader(batches, batch_size=None, num_workers=CORES, persistent_workers=True)
    return lambda: loader
