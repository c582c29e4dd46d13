"""Allocate memory for batches, and reuse it as soon as the last tensor that views it is gone.

In: a shape.
Out: a tensor.
Invariant: no two live tensors share memory, no more memory is held than was in use at once, and no other process can
change a batch: the pages are private, so a forked child writes to copies of its own.

Allocating fresh pages takes a fifth of the loader's time at 256 pixels, and malloc retains and fragments blocks of this
size until it holds up to ten times the memory in use.
"""

import mmap
from math import prod

import numpy as np
import torch
from torch import Tensor

from wds_bone.storage.finalizer import call_when_gone


class PixelMemory:
    """Reusable blocks of one size, mapped from the kernel. Thread-safe."""

    def __init__(self, block_bytes: int) -> None:
        self._block_bytes = block_bytes
        self._free: list[mmap.mmap] = []

    def take(self, shape: tuple[int, ...]) -> Tensor:
        """Return a uint8 tensor of `shape`, at most as large as a block; its contents are undefined.

        Raises:
            ValueError: if it is larger than a block.
        """
        if prod(shape) > self._block_bytes:
            raise ValueError(f"{shape} bytes do not fit into a block of {self._block_bytes:,} bytes")
        try:
            block = self._free.pop()
        except IndexError:
            block = mmap.mmap(-1, self._block_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        pixels = np.ndarray(shape, np.uint8, block)
        # The tensor and every view of it keep `pixels` alive; when the last one is gone, the block is free.
        call_when_gone(pixels, self._free.append, block)
        return torch.from_numpy(pixels)
