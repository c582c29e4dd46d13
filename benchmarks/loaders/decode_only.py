"""The decoder alone, as the upper limit: the encoded bytes in RAM, decoded into a reused batch, two threads."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import local

import numpy as np
import simplejpeg

from benchmarks.loaders import BATCH_SIZE, CORES, Epochs
from benchmarks.loaders.decoding import decode_gray
from benchmarks.samples import read_samples

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def prepare(samples: Path, folder: Path) -> None:
    """Do nothing: `open_epochs` reads the samples."""


def open_epochs(samples: Path, folder: Path, *, size: int, encoding: str) -> Epochs:
    """Return a function that decodes one epoch; each thread takes the next batch as soon as it is free."""
    entries = list(read_samples(samples))
    films = [sample.path.read_bytes() for sample in entries]
    labels = np.array([(sample.gender, sample.age_months) for sample in entries], np.float32)
    buffers = local()

    def decode(first: int) -> Arrays:
        if not hasattr(buffers, "pixels"):
            buffers.pixels = np.empty((BATCH_SIZE, size, size, 1), np.uint8)
        for row, film in zip(buffers.pixels, films[first : first + BATCH_SIZE], strict=False):
            if encoding == "jpg":
                simplejpeg.decode_jpeg(film, colorspace="GRAY", buffer=row)
            else:
                row[:, :, 0] = decode_gray(film, encoding)[0]
        batch_labels = labels[first : first + BATCH_SIZE]
        return buffers.pixels, batch_labels[:, 0], batch_labels[:, 1]

    def epoch() -> Iterator[Arrays]:
        with ThreadPoolExecutor(CORES) as pool:
            yield from pool.map(decode, range(0, len(films), BATCH_SIZE))

    return epoch
