"""Find out how much more memory this process can use, and refuse settings that are beyond the machine.

In: what the system says about the machine, the container and the process.
Out: a number of bytes, and what limits it; or an error.
Invariant: the smallest limit counts; what the kernel can free at once, such as caches of files, counts as available.
"""

import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from wds_bone.errors import ConfigError

MAX_PER_CORE = 64
"""Threads or processes that one core can serve; more of them only take memory from each other."""


class Memory(NamedTuple):
    """An amount of memory, and what limits it."""

    num_bytes: int
    source: str

    def __str__(self) -> str:
        return f"{format_bytes(self.num_bytes)}, {self.source}"


def available_memory(root: Path = Path("/")) -> Memory:
    """Return the memory that this process can still use; `root` is where /proc and /sys are."""
    known = [*_machine_memory(root / "proc"), *_cgroup_memory(root), *_process_memory(root / "proc/self/statm")]
    return min(known, key=lambda memory: memory.num_bytes)


def format_bytes(num_bytes: int) -> str:
    """Return a number of bytes as text, such as "51.2 GB"."""
    power = next((power for power in range(5) if num_bytes < 1000 ** (power + 1)), 5)
    return f"{num_bytes / 1000**power:,.{1 if power else 0}f} {['bytes', 'kB', 'MB', 'GB', 'TB', 'PB'][power]}"


def check_count(name: str, count: int | None, *, cores: int) -> None:
    """Refuse more threads or processes than the cores of this machine can use; `name` is the setting.

    Raises:
        ConfigError: if there are.
    """
    if count is not None and count > cores * MAX_PER_CORE:
        raise ConfigError(
            f"{name} {count} is more than this machine can use",
            expected=f"at most {cores * MAX_PER_CORE:,}: {MAX_PER_CORE} for each of {cores} cores",
            got=f"{count:,}",
            do=f"use {name} {cores}, or leave it out",
        )


def check_memory(*, batch_bytes: int, num_batches: int, buffer_bytes: int) -> None:
    """Refuse batches that do not fit into the memory of this machine.

    Args:
        batch_bytes: bytes of the images in one batch of this rank.
        num_batches: batches that are in memory at the same time.
        buffer_bytes: bytes of everything else.

    Raises:
        ConfigError: if they do not fit.
    """
    memory, needed_bytes = available_memory(), num_batches * batch_bytes + buffer_bytes
    if needed_bytes > memory.num_bytes:
        noun = "batch" if num_batches == 1 else "batches"
        raise ConfigError(
            "the batches that are loaded at the same time do not fit into memory",
            expected=f"at most {memory}",
            got=f"{format_bytes(needed_bytes)}: {num_batches} {noun} of {format_bytes(batch_bytes)}, and "
            f"{format_bytes(buffer_bytes)} for the threads",
            do="use a smaller batch size, fewer threads, or smaller images",
        )


def _machine_memory(proc: Path) -> Iterator[Memory]:
    with suppress(OSError, KeyError, ValueError):
        fields = dict(line.split(":") for line in (proc / "meminfo").read_text().splitlines())
        kib = sum(int(fields[name].split()[0]) for name in ("MemAvailable", "SwapFree"))
        yield Memory(kib * 1024, "the free memory of this machine")
        return
    num_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    yield Memory(num_bytes, "the memory of this machine")


def _cgroup_memory(root: Path) -> Iterator[Memory]:
    """Yield what is left of the limits of the control groups of this process, of version 1 or 2."""
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            mount = root / "sys/fs/cgroup" / controllers  # version 2 has no names of controllers
            if controllers in ("", "memory"):
                group = mount / path.lstrip("/")
                groups = [group, *group.parents]
                for folder in groups[: groups.index(mount) + 1]:
                    yield from _group_memory(folder, is_unified=not controllers)


def _group_memory(folder: Path, *, is_unified: bool) -> Iterator[Memory]:
    limit, usage = ("max", "current") if is_unified else ("limit_in_bytes", "usage_in_bytes")
    with suppress(OSError, ValueError, KeyError):  # another kernel, or no limit ("max")
        limit_bytes, used_bytes = (int((folder / f"memory.{name}").read_text()) for name in (limit, usage))
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        cached_bytes = int(statistics["inactive_file" if is_unified else "total_inactive_file"])
        left = max(0, limit_bytes - used_bytes + cached_bytes)
        yield Memory(left, f"what is left of the {format_bytes(limit_bytes)} of this container or job (cgroup)")


def _process_memory(statm: Path) -> Iterator[Memory]:
    with suppress(OSError):
        pages = [int(number) for number in statm.read_text().split()]
        limits = {"-v": (resource.RLIMIT_AS, pages[0]), "-d": (resource.RLIMIT_DATA, pages[5])}
        for option, (kind, used_pages) in limits.items():
            limit_bytes = resource.getrlimit(kind)[0]
            if limit_bytes != resource.RLIM_INFINITY:
                left = max(0, limit_bytes - used_pages * resource.getpagesize())
                yield Memory(left, f"what is left of the {format_bytes(limit_bytes)} of a process (`ulimit {option}`)")
