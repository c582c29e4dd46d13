"""The generator of the blog post that this project began with: all images in RAM, batches of float32 / 255."""

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.entrants import BATCH_SIZE, Epochs
from benchmarks.entrants.decoding import decode_gray
from benchmarks.samples import read_samples

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def prepare(samples: Path, folder: Path) -> None:
    """Nothing: the samples are read when they are opened."""


def open_epochs(samples: Path, folder: Path, *, size: int, encoding: str) -> Epochs:
    """Return epochs of the generator."""
    rows = list(read_samples(samples))
    images = [decode_gray(row.path.read_bytes(), encoding)[0, :, :, None] for row in rows]
    genders = np.array([row.gender for row in rows], np.float32)
    ages = np.array([row.age_months for row in rows], np.float32)

    def epoch() -> Iterator[Arrays]:
        order = random.sample(range(len(rows)), len(rows))
        for first in range(0, len(rows), BATCH_SIZE):
            here = order[first : first + BATCH_SIZE]
            yield np.array([images[number] for number in here], np.float32) / 255, genders[here], ages[here]

    return epoch
