"""Loaders side by side, one module each.

Each has `prepare(samples, folder)`, which packs the samples of `benchmarks.samples` into the entrant's own format, and
`open_epochs(samples, folder, size, encoding)`, which returns a function that gives one epoch of batches: image uint8
(64, 1, H, W) or (64, H, W, 1), gender (64,), age (64,); the generator of the original post gives
float32 / 255, and the limit uses its memory again. `benchmarks.lane` runs each in a process of its own.
"""

from collections.abc import Callable, Iterable
from typing import Any

BATCH_SIZE = 64
CORES = 2

Epochs = Callable[[], Iterable[tuple[Any, Any, Any]]]
