"""Check the settings of a stream before any work, and count the available cores."""

import operator
import os
from contextlib import suppress
from dataclasses import dataclass

from wds_bone.errors import ConfigError
from wds_bone.storage.machine import check_count

_REQUIRED = ("batch_size", "rank", "world_size")
_OPTIONAL = ("shuffle_buffer", "shuffle_windows", "threads", "cache_bytes")
_SEED = "use a number, such as seed=0; shuffle=False keeps the order of the shards"


def available_cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def whole_number(name: str, value: object, *, do: str | None = None) -> int:
    """Return an int or a NumPy integer as an int.

    Raises:
        ConfigError: if it is anything else; a bool is not a number.
    """
    if not isinstance(value, bool):
        with suppress(TypeError):
            return operator.index(value)  # type: ignore[arg-type]
    problem, got = f"{name} {value!r} is not a whole number", type(value).__name__
    raise ConfigError(problem, expected="an int", got=got, do=do or f"use a whole number for {name}")


@dataclass(frozen=True, kw_only=True)
class StreamSettings:
    """The settings of a stream, checked; `BoneAgeStream` explains them. Integers of NumPy become ints.

    Raises:
        ConfigError: if a number is not whole or out of range, or settings contradict each other.
    """

    batch_size: int
    seed: int
    shuffle: bool
    shuffle_buffer: int | None
    shuffle_windows: int | None
    rank: int
    world_size: int
    threads: int | None
    cache_bytes: int | None

    def __post_init__(self) -> None:
        for name in (*_REQUIRED, *_OPTIONAL):
            value = getattr(self, name)
            if value is not None or name in _REQUIRED:
                object.__setattr__(self, name, whole_number(name, value))
        object.__setattr__(self, "seed", whole_number("seed", self.seed, do=_SEED))
        _check_at_least_one(**{name: getattr(self, name) for name in ("batch_size", "world_size", *_OPTIONAL)})
        check_count("threads", self.threads, cores=available_cores())
        _check_ranks(batch_size=self.batch_size, rank=self.rank, world_size=self.world_size)
        _check_shuffle(self)


def _check_shuffle(settings: StreamSettings) -> None:
    names = ("shuffle_buffer", "shuffle_windows")
    given = [f"{name}={value}" for name in names if (value := getattr(settings, name)) is not None]
    if given and not settings.shuffle:
        raise ConfigError(f"{given[0]} has no effect with shuffle=False", do="leave one of them out")
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} contradict each other", do="leave one of them out")


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
