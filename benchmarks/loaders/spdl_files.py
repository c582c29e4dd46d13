"""SPDL as its examples use it: batches of paths, loaded by `load_image_batch` in two threads."""

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import spdl.io
from spdl.pipeline import PipelineBuilder

from benchmarks.loaders import BATCH_SIZE, CORES, Epochs
from benchmarks.samples import Sample, read_samples

Loaded = tuple[np.ndarray, np.ndarray, np.ndarray]


def prepare(samples: Path, folder: Path) -> None:
    """Do nothing: the samples are already loose files."""


def open_epochs(samples: Path, folder: Path, *, size: int, encoding: str) -> Epochs:
    """Return a function that runs one epoch of an SPDL pipeline."""
    entries = list(read_samples(samples))
    spdl.io.load_image(str(entries[0].path))  # fails here, before the first round, if the FFmpeg libraries are missing

    def load(batch: list[Sample]) -> Loaded:
        paths = [str(sample.path) for sample in batch]
        images = spdl.io.to_numpy(spdl.io.load_image_batch(paths, width=None, height=None, pix_fmt="gray"))
        genders = np.array([sample.gender for sample in batch], np.float32)
        return images, genders, np.array([sample.age_months for sample in batch], np.float32)

    def epoch() -> Iterator[Loaded]:
        shuffled = random.sample(entries, len(entries))
        batches = [shuffled[first : first + BATCH_SIZE] for first in range(0, len(entries), BATCH_SIZE)]
        pipeline = PipelineBuilder().add_source(batches).pipe(load, concurrency=CORES).add_sink(3)
        with (built := pipeline.build(num_threads=CORES)).auto_stop():
            yield from built

    return epoch
