"""The generator of the blog post that this project started from: all images in RAM, batches of float32 / 255."""

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.loaders import BATCH_SIZE, Epochs
from benchmarks.loaders.decoding import decode_gray
from benchmarks.samples import read_samples

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def prepare(samples: Path, folder: Path) -> None:
    """Do nothing: `open_epochs` reads the samples."""


def open_epochs(samples: Path, folder: Path, *, size: int, encoding: str) -> Epochs:
    """Return a function that yields one epoch of the generator."""
    entries = list(read_samples(samples))
    images = [decode_gray(sample.path.read_bytes(), encoding)[0, :, :, None] for sample in entries]
    genders = np.array([sample.gender for sample in entries], np.float32)
    ages = np.array([sample.age_months for sample in entries], np.float32)

    def epoch() -> Iterator[Arrays]:
        order = random.sample(range(len(entries)), len(entries))
        for first in range(0, len(entries), BATCH_SIZE):
            rows = order[first : first + BATCH_SIZE]
            yield np.array([images[row] for row in rows], np.float32) / 255, genders[rows], ages[rows]

    return epoch
