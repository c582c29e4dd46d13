"""torch's DataLoader over loose files: two persistent workers."""

from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader, Dataset

from benchmarks.loaders import BATCH_SIZE, CORES, Epochs
from benchmarks.loaders.decoding import decode_gray
from benchmarks.samples import read_samples


class Films(Dataset):
    """Loose files with their labels."""

    def __init__(self, samples: Path, encoding: str) -> None:
        self.samples = list(read_samples(samples))
        self.encoding = encoding

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[np.ndarray, float, float]:
        sample = self.samples[index]
        return decode_gray(sample.path.read_bytes(), self.encoding), sample.gender, sample.age_months


def prepare(samples: Path, folder: Path) -> None:
    """Do nothing: the samples are already loose files."""


def open_epochs(samples: Path, folder: Path, *, size: int, encoding: str) -> Epochs:
    """Return a function that yields one epoch of a DataLoader."""
    films = Films(samples, encoding)
    loader = DataLoader(films, BATCH_SIZE, shuffle=True, num_workers=CORES, persistent_workers=True)
    return lambda: loader
