"""Allocate memory for batches, and reuse it as soon as the last tensor that views it is gone.

In: a shape.
Out: a tensor.
Invariant: no two live tensors share memory, and no more memory is held than was in use at once.

Allocating fresh pages takes a fifth of the loader's time at 256 pixels, and malloc retains and fragments blocks of this
size until it holds up to ten times the memory in use.
"""

import mmap
import weakref
from math import prod

import numpy as np
import torch
from torch import Tensor


class PixelMemory:
    """Reusable blocks of one size, mapped from the kernel. Thread-safe."""

    def __init__(self, block_bytes: int) -> None:
        self._block_bytes = block_bytes
        self._free: list[mmap.mmap] = []

    def take(self, shape: tuple[int, ...]) -> Tensor:
        """Return a uint8 tensor of `shape`, at most as large as a block; its contents are undefined."""
        assert prod(shape) <= self._block_bytes
        try:
            block = self._free.pop()
        except IndexError:
            block = mmap.mmap(-1, self._block_bytes)
        pixels = np.ndarray(shape, np.uint8, block)
        # The tensor and every view of it keep `pixels` alive; when the last one is gone, the block is free.
        weakref.finalize(pixels, self._free.append, block).atexit = False
        return torch.from_numpy(pixels)
