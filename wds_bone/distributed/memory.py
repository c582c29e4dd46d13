"""Refuse settings that need more memory than there is, and turn running out of it into an error that the user can fix.

In: what a command will allocate, or an exception from torch.
Out: a `WdsBoneError` with the numbers.
Invariant: everything that runs on a device runs inside `memory_errors`, starting with building the model.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from wds_bone.errors import ConfigError, WdsBoneError
from wds_bone.storage.machine import Memory, available_memory, format_bytes

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
NCCL_BYTES = 10_000_000
"""What NCCL needs there at least for each process: it asks for segments of 9,637,888 bytes (its default buffers)."""
_OUT_OF_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "Unable to allocate",
    "Cannot allocate memory",
    "CUDA out of memory",  # reported by a compiler
    "CUDA error: out of memory",  # page-locked memory
    "CUDA driver error: out of memory",
    "Cuda failure 2 'out of memory'",  # NCCL
    "STATUS_ALLOC_FAILED",  # cuBLAS and cuDNN allocate their handles themselves
)


@contextmanager
def memory_errors(device: str | torch.device, *, got: str, do: str) -> Iterator[None]:
    """Turn running out of memory inside the block into a `WdsBoneError`.

    Args:
        device: the device that is used inside the block.
        got: the settings that determine how much memory is needed.
        do: which of them to change.

    Raises:
        WdsBoneError: if there was not enough memory.
    """
    try:
        yield
    except WdsBoneError:
        raise
    except (MemoryError, OSError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        problem = f"the model and its images do not fit into the memory of the {device} device"
        raise WdsBoneError(problem, got=got, do=do) from error


def refuse_beyond_memory(needed: Mapping[str, int], device: torch.device, *, got: str, do: str) -> None:
    """Check that the memory is large enough, before anything is allocated.

    Args:
        needed: the least number of bytes that each part needs, by its name.
        device: the device on which they are needed.
        got: the settings that determine how much memory is needed.
        do: which of them to change.

    Raises:
        ConfigError: if it is not; the error names the parts and what limits the memory.
    """
    memory, total = _memory_of(device), sum(needed.values())
    if total > memory.num_bytes:
        parts = ", ".join(f"{format_bytes(num_bytes)} for {name}" for name, num_bytes in needed.items())
        raise ConfigError(
            f"the {device} device has too little memory for {got}",
            expected=f"at most {memory}",
            got=f"at least {format_bytes(total)}: {parts}",
            do=do,
        )


def refuse_small_shm(num_processes: int, folder: Path = SHARED_MEMORY) -> None:
    """Check that the shared memory of this machine is large enough for the processes that share it with NCCL.

    Raises:
        ConfigError: if it is not.
    """
    needed, free = num_processes * NCCL_BYTES, shutil.disk_usage(folder).free if folder.is_dir() else 0
    if num_processes > 1 and free < needed:
        raise ConfigError(
            f"{folder}: is too small for {num_processes} processes with a GPU each",
            expected=f"at least {format_bytes(needed)} free",
            got=f"{format_bytes(free)} free",
            do="start the container with --shm-size=1g or --ipc=host, or mount a larger tmpfs there",
        )


def _memory_of(device: str | torch.device) -> Memory:
    """Return the memory that this process can use on a device; the processes of a machine share that of the CPU."""
    if torch.device(device).type == "cuda":
        return Memory(torch.cuda.mem_get_info(device)[0], "the free memory of the device")
    memory, num_processes = available_memory(), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if num_processes == 1:
        return memory
    return Memory(memory.num_bytes // num_processes, f"{memory.source}, shared by {num_processes} processes")


def _is_out_of_memory(error: Exception) -> bool:
    is_named = any(text in str(error) for text in _OUT_OF_MEMORY)
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or is_named
