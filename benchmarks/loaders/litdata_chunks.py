"""litData: optimized chunks, two workers."""

from pathlib import Path
from typing import Any

import numpy as np
from litdata import StreamingDataLoader, StreamingDataset, optimize

from benchmarks.loaders import BATCH_SIZE, CORES, Epochs
from benchmarks.loaders.decoding import decode_gray
from benchmarks.samples import Sample, read_samples


class Films(StreamingDataset):
    """Chunks whose images are decoded when they are read."""

    def __init__(self, folder: Path, encoding: str) -> None:
        super().__init__(str(folder), shuffle=True)
        self.encoding = encoding

    def __getitem__(self, index: Any) -> tuple[np.ndarray, float, float]:
        sample = super().__getitem__(index)
        return decode_gray(sample["image"], self.encoding), sample["gender"], sample["age_months"]


def prepare(samples: Path, folder: Path) -> None:
    """Write optimized chunks of 64 MB."""
    optimize(_pack, list(read_samples(samples)), str(folder), num_workers=1, chunk_bytes="64MB")


def open_epochs(samples: Path, folder: Path, *, size: int, encoding: str) -> Epochs:
    """Return a function that yields one epoch of a StreamingDataLoader."""
    loader = StreamingDataLoader(
        Films(folder, encoding), batch_size=BATCH_SIZE, num_workers=CORES, persistent_workers=True
    )
    return lambda: loader


def _pack(sample: Sample) -> dict[str, Any]:
    return {"image": sample.path.read_bytes(), "gender": sample.gender, "age_months": sample.age_months}
