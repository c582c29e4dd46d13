"""Allocate memory for batches, and reuse it as soon as the last tensor that views it is gone.

In: a shape.
Out: a tensor.
Invariant: no two live tensors share memory, no more memory is held than was in use at once, and no other process can
change a batch: the pages are private, so a forked child writes to copies of its own.

Allocating fresh pages takes a fifth of the loader's time at 256 pixels, and malloc retains and fragments blocks of this
size until it holds up to ten times the memory in use.
"""

import mmap
import resource
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wds_bone.errors import ConfigError
from wds_bone.storage.finalizer import call_when_gone

_MEMORY = Path("/proc/meminfo")
_PROCESS = Path("/proc/self/status")
_CGROUP = Path("/sys/fs/cgroup")


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


def check_memory(*, num_batches: int, batch_bytes: int, buffer_bytes: int, do: str) -> None:
    """Refuse batches that do not fit into the memory that is available.

    Args:
        num_batches: number of batches that are in memory at once.
        batch_bytes: size of the images of one.
        buffer_bytes: size of everything else.
        do: what to change.

    Raises:
        ConfigError: if they do not fit.
    """
    available_bytes, needed_bytes = _available_bytes(), num_batches * batch_bytes + buffer_bytes
    if available_bytes is not None and needed_bytes > available_bytes:
        raise ConfigError(
            "the batches do not fit into memory",
            expected=f"at most {available_bytes / 1e6:,.0f} MB, which are available to this process",
            got=f"{needed_bytes / 1e6:,.0f} MB: {num_batches} batches of {batch_bytes / 1e6:,.1f} MB in memory at "
            f"once, and {buffer_bytes / 1e6:,.1f} MB for the threads",
            do=do,
        )


def _available_bytes() -> int | None:
    """Return how much more memory this process can use, or None if the system does not report it."""
    limits = [_read_kilobytes(_MEMORY, "MemAvailable"), _cgroup_bytes()]
    for limit, used in ((resource.RLIMIT_DATA, "VmData"), (resource.RLIMIT_AS, "VmSize")):
        most, used_bytes = resource.getrlimit(limit)[0], _read_kilobytes(_PROCESS, used)
        if most != resource.RLIM_INFINITY and used_bytes is not None:
            limits.append(max(0, most - used_bytes))
    return min((limit for limit in limits if limit is not None), default=None)


def _cgroup_bytes() -> int | None:
    """Return what the control group of a container leaves, not counting its page cache, which gives way."""
    try:
        most = (_CGROUP / "memory.max").read_text().strip()
        used = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    return None if most == "max" else max(0, int(most) - int(used["anon"]))


def _read_kilobytes(path: Path, name: str) -> int | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)
