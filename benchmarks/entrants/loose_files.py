"""torch's DataLoader over loose files: two lasting workers."""

from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader, Dataset

from benchmarks.entrants import BATCH_SIZE, CORES, Epochs
from benchmarks.entrants.decoding import decode_gray
from benchmarks.samples import read_samples


class Films(Dataset):
    """Loose files with their labels."""

    def __init__(self, samples: Path, encoding: str) -> None:
        self.rows = list(read_samples(samples))
        self.encoding = encoding

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[np.ndarray, float, float]:
        row = self.rows[index]
        return decode_gray(row.path.read_bytes(), self.encoding), row.gender, row.age_months


def prepare(samples: Path, folder: Path) -> None:
    """Nothing: the samples are loose files."""


def open_epochs(samples: Path, folder: Path, *, size: int, encoding: str) -> Epochs:
    """Return epochs of a DataLoader."""
    films = Films(samples, encoding)
    loader = DataLoader(films, BATCH_SIZE, shuffle=True, num_workers=CORES, persistent_workers=True)
    return lambda: loader
