"""The limit: the same bytes in RAM, the fastest decoder, straight into a batch that is used again, two threads."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import local

import numpy as np
import simplejpeg

from benchmarks.entrants import BATCH_SIZE, CORES, Epochs
from benchmarks.entrants.decoding import decode_gray
from benchmarks.samples import read_samples

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def prepare(samples: Path, folder: Path) -> None:
    """Nothing: the samples are read when they are opened."""


def open_epochs(samples: Path, folder: Path, *, size: int, encoding: str) -> Epochs:
    """Return epochs in which a thread takes the next batch when it is done with one."""
    rows = list(read_samples(samples))
    films = [row.path.read_bytes() for row in rows]
    labels = np.array([(row.gender, row.age_months) for row in rows], np.float32)

    buffers = local()

    def decode(first: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if not hasattr(buffers, "pixels"):
            buffers.pixels = np.empty((BATCH_SIZE, size, size, 1), np.uint8)
        for row, film in zip(buffers.pixels, films[first : first + BATCH_SIZE], strict=False):
            if encoding == "jpg":
                simplejpeg.decode_jpeg(film, colorspace="GRAY", buffer=row)
            else:
                row[:, :, 0] = decode_gray(film, encoding)[0]
        here = labels[first : first + BATCH_SIZE]
        return buffers.pixels, here[:, 0], here[:, 1]

    def epoch() -> Iterator[Arrays]:
        with ThreadPoolExecutor(CORES) as pool:
            yield from pool.map(decode, range(0, len(films), BATCH_SIZE))

    return epoch
