"""Check the settings of a stream before any work, and count the available cores."""

import os

from wds_bone.errors import ConfigError
from wds_bone.storage.machine import check_count


def available_cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_settings(
    *, batch_size: int, shuffle: bool, shuffle_buffer: int | None, rank: int, world_size: int, threads: int | None
) -> None:
    """Refuse settings that are out of range or contradict each other.

    Raises:
        ConfigError: if a number or the rank is out of range, there are more threads than this machine can use, or
            `world_size` does not divide `batch_size`.
    """
    _check_at_least_one(batch_size=batch_size, shuffle_buffer=shuffle_buffer, world_size=world_size, threads=threads)
    _check_ranks(batch_size=batch_size, rank=rank, world_size=world_size)
    check_count("threads", threads, cores=available_cores())
    if shuffle_buffer is not None and not shuffle:
        raise ConfigError(
            f"shuffle_buffer={shuffle_buffer} has no effect with shuffle=False", do="leave one of them out"
        )


def _check_at_least_one(**counts: int | None) -> None:
    for name, count in counts.items():
        if count is not None and count < 1:
            problem = f"{name} {count} is out of range"
            raise ConfigError(problem, expected="1 or more", got=count, do=f"use another {name}")


def _check_ranks(*, batch_size: int, rank: int, world_size: int) -> None:
    if not 0 <= rank < world_size:
        problem = f"rank {rank} of {world_size} is out of range"
        raise ConfigError(problem, expected=f"0 to {world_size - 1}", got=rank, do="count ranks from 0")
    if batch_size % world_size:
        below, above = batch_size // world_size * world_size, (batch_size // world_size + 1) * world_size
        raise ConfigError(
            f"batch_size {batch_size} cannot be divided among {world_size} ranks",
            expected=f"a multiple of {world_size}",
            got=batch_size,
            do=f"use batch_size {f'{below} or {above}' if below else above}",
        )
