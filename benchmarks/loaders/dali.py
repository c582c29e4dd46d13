"""NVIDIA DALI on the CPU: its webdataset reader with our `.idx` files, two threads.

DALI reads two batches of the next epoch ahead, which is 1.6 % of an epoch of 8,192 samples.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from nvidia.dali import fn, pipeline_def, types

from benchmarks.loaders import BATCH_SIZE, CORES, Epochs
from benchmarks.loaders.decoding import NPY_HEADER_BYTES
from benchmarks.loaders.ours import prepare

__all__ = ["open_epochs", "prepare"]


def open_epochs(samples: Path, folder: Path, *, size: int, encoding: str) -> Epochs:
    """Return a function that runs one epoch of a DALI pipeline."""
    tars = sorted(folder.glob("*.tar"))

    @pipeline_def(batch_size=BATCH_SIZE, num_threads=CORES, device_id=None, prefetch_queue_depth=2)
    def films():
        contents, label = fn.readers.webdataset(
            paths=[str(path) for path in tars],
            index_paths=[str(path.with_suffix(".idx")) for path in tars],
            ext=[encoding, "json"],
            random_shuffle=True,
            initial_fill=1000,
            name="reader",
        )
        if encoding == "npy":
            return fn.reshape(contents[NPY_HEADER_BYTES:], shape=[size, size, 1]), label
        return fn.decoders.image(contents, device="cpu", output_type=types.GRAY), label

    pipeline = films()
    pipeline.build()
    num_batches = pipeline.epoch_size("reader") // BATCH_SIZE

    def epoch() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        for _ in range(num_batches):
            images, labels = pipeline.run()
            parsed = [json.loads(np.asarray(labels.at(row)).tobytes()) for row in range(BATCH_SIZE)]
            genders = np.array([label["gender"] == "M" for label in parsed], np.float32)
            yield images.as_array(), genders, np.array([label["age_months"] for label in parsed], np.float32)

    return epoch
