"""Wrap a stream as a `keras.utils.PyDataset`, the successor of the Keras `Sequence`.

In: a `BoneAgeStream` on the CPU.
Out: `([image, gender], age_months)` NumPy batches.
Invariant: there are no padding rows; batch i of an epoch is `stream[i]`.

Needs the extra `keras` (Keras 3, any backend).
"""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from wds_bone.errors import ConfigError
from wds_bone.stream.batch import Batch
from wds_bone.stream.stream import BoneAgeStream

KerasBatch = tuple[list[NDArray[np.float32]], NDArray[np.float32]]


class KerasBoneAge(keras.utils.PyDataset):  # type: ignore[misc]
    """A stream as a Keras dataset: `len`, `[i]`, a new order after every epoch, and an endless `next`.

    Args:
        stream: the stream to wrap, with batch size B and world size 1.
        settings: keyword arguments of `PyDataset`. `workers` threads decode whole batches in parallel; the stream
            refuses `use_multiprocessing`, which would read every sample once per process.

    A batch is `([image, gender], age_months)`, float32: image (B, H, W, 1) in 0 to 1, gender (B, 1) with 1 male and
    0 female, age_months (B, 1). The last batch of an epoch is shorter when B does not divide the number of samples.
    """

    def __init__(self, stream: BoneAgeStream, **settings: Any) -> None:
        super().__init__(**settings)
        if stream.world_size != 1:
            raise ConfigError(
                "a Keras dataset cannot be one rank of several",
                expected="world_size 1",
                got=stream.world_size,
                do="open the stream with world_size=1",
            )
        self._stream = stream
        self._epoch = stream.position // stream.num_samples
        self._endless = self._batches()

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return len(self._stream)

    def __getitem__(self, index: int) -> KerasBatch:
        """Return batch `index` of the current epoch."""
        return _as_arrays(self._stream[index])

    def __next__(self) -> KerasBatch:
        """Return the next batch of an endless sequence of epochs."""
        return next(self._endless)

    def on_epoch_end(self) -> None:
        """Switch to the order of the next epoch."""
        self._epoch += 1
        self._stream.set_epoch(self._epoch)

    def _batches(self) -> Iterator[KerasBatch]:
        while True:
            yield from map(self.__getitem__, range(len(self)))
            self.on_epoch_end()


def _as_arrays(batch: Batch) -> KerasBatch:
    real = batch.weight.numpy() > 0
    image = batch.image.numpy()[real].transpose(0, 2, 3, 1).astype(np.float32) / np.float32(255)
    return [image, batch.gender.numpy()[real, None]], batch.age_months.numpy()[real, None]
