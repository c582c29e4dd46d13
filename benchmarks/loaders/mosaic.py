"""MosaicML streaming: MDS shards, two persistent workers."""

from pathlib import Path
from typing import Any

import numpy as np
from streaming import MDSWriter, StreamingDataset
from torch.utils.data import DataLoader

from benchmarks.loaders import BATCH_SIZE, CORES, Epochs
from benchmarks.loaders.decoding import decode_gray
from benchmarks.samples import read_samples


class Films(StreamingDataset):
    """MDS shards whose images are decoded when they are read."""

    def __init__(self, folder: str, encoding: str, *, remote: str | None = None) -> None:
        super().__init__(local=folder, remote=remote, shuffle=True, batch_size=BATCH_SIZE)
        self.encoding = encoding

    def __getitem__(self, index: Any) -> tuple[np.ndarray, float, float]:
        sample = super().__getitem__(index)
        return decode_gray(sample["image"], self.encoding), sample["gender"], sample["age_months"]


def prepare(samples: Path, folder: Path) -> None:
    """Write MDS shards."""
    columns = {"image": "bytes", "gender": "float32", "age_months": "float32"}
    with MDSWriter(out=str(folder), columns=columns) as writer:
        for sample in read_samples(samples):
            labels = {"gender": np.float32(sample.gender), "age_months": np.float32(sample.age_months)}
            writer.write({"image": sample.path.read_bytes(), **labels})


def open_epochs(samples: Path, folder: Path, *, size: int, encoding: str) -> Epochs:
    """Return a function that yields one epoch of a DataLoader over the streaming dataset."""
    return _open(Films(str(folder), encoding))


def open_remote(source: str, cache: str) -> Epochs:
    """Return a function that yields one epoch over JPEG images in a bucket; `cache` keeps the shards."""
    return _open(Films(cache, "jpg", remote=source))


def _open(films: Films) -> Epochs:
    loader = DataLoader(films, BATCH_SIZE, num_workers=CORES, persistent_workers=True)
    return lambda: loader
