"""Check the settings of a stream before any work, and count the available cores."""

import os

from wds_bone.errors import ConfigError


def available_cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_settings(
    *, batch_size: int, shuffle: bool, shuffle_buffer: int | None, rank: int, world_size: int, threads: int | None
) -> None:
    """Refuse settings that contradict each other.

    Raises:
        ConfigError: if a number or the rank is out of range, or `world_size` does not divide `batch_size`.
    """
    for name, value in {
        "batch_size": batch_size,
        "shuffle_buffer": shuffle_buffer,
        "world_size": world_size,
        "threads": threads,
    }.items():
        if value is not None and value < 1:
            raise ConfigError(
                f"{name} {value} is out of range", expected="1 or more", got=value, do=f"give another {name}"
            )
    if shuffle_buffer is not None and not shuffle:
        got = f"shuffle=False, shuffle_buffer={shuffle_buffer}"
        raise ConfigError(
            "shuffle_buffer has no effect without shuffle", expected="both or neither", got=got, do="leave one out"
        )
    if not 0 <= rank < world_size:
        raise ConfigError(
            f"rank {rank} of {world_size} is out of range",
            expected=f"0 to {world_size - 1}",
            got=rank,
            do="count ranks from 0",
        )
    if batch_size % world_size:
        near = f"{batch_size // world_size * world_size or world_size} or {(batch_size // world_size + 1) * world_size}"
        raise ConfigError(
            f"batch_size {batch_size} cannot be divided among {world_size} ranks",
            expected=f"a multiple of {world_size}",
            got=batch_size,
            do=f"give batch_size {near}",
        )
