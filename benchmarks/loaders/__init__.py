"""The loaders that the benchmarks compare, one module each.

In: the samples that `benchmarks.samples` wrote.
Out: `prepare(samples, folder)` packs them into the loader's own format; `open_epochs(samples, folder, size, encoding)`
returns a function that yields one epoch of batches each time it is called. Some loaders also have `open_remote(source,
cache)`, which reads JPEG images over the network.
Invariant: a batch is image uint8 (64, 1, H, W) or (64, H, W, 1), gender (64,) and age in months (64,). There are two
exceptions: `in_ram` yields float32 images divided by 255, and `decode_only` reuses the memory of its batches.

`benchmarks.loader_process` runs each loader in a separate process.
"""

from collections.abc import Callable, Iterable
from typing import Any

BATCH_SIZE = 64
CORES = 2

Epochs = Callable[[], Iterable[tuple[Any, Any, Any]]]
