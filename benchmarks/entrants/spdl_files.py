"""SPDL as its own examples use it: batches of paths, loaded by `load_image_batch` in two threads."""

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import spdl.io
from spdl.pipeline import PipelineBuilder

from benchmarks.entrants import BATCH_SIZE, CORES, Epochs
from benchmarks.samples import Sample, read_samples

Loaded = tuple[np.ndarray, np.ndarray, np.ndarray]


def prepare(samples: Path, folder: Path) -> None:
    """Nothing: the samples are loose files."""


def open_epochs(samples: Path, folder: Path, *, size: int, encoding: str) -> Epochs:
    """Return epochs of an SPDL pipeline."""
    rows = list(read_samples(samples))
    spdl.io.load_image(str(rows[0].path))  # without the libraries of ffmpeg it ends here, before the first round

    def load(batch: list[Sample]) -> Loaded:
        paths = [str(row.path) for row in batch]
        images = spdl.io.to_numpy(spdl.io.load_image_batch(paths, width=None, height=None, pix_fmt="gray"))
        genders = np.array([row.gender for row in batch], np.float32)
        return images, genders, np.array([row.age_months for row in batch], np.float32)

    def epoch() -> Iterator[Loaded]:
        shuffled = random.sample(rows, len(rows))
        batches = [shuffled[first : first + BATCH_SIZE] for first in range(0, len(rows), BATCH_SIZE)]
        pipeline = PipelineBuilder().add_source(batches).pipe(load, concurrency=CORES).add_sink(3)
        with (built := pipeline.build(num_threads=CORES)).auto_stop():
            yield from built

    return epoch
