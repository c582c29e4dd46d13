"""Exchange values between the ranks of a run.

In: a value of this rank.
Out: a value that is the same on all ranks, or that all ranks can see.
Invariant: all ranks make the same calls in the same order; for a process without a launcher each call returns its
argument.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import Store  # type: ignore[attr-defined]

from wds_bone.errors import ConfigError


class Ranks:
    """One process among `world_size`; every method is called by all of them, and blocks until all have called it.

    Args:
        device: the device of this process.
        rank: the number of this process, from 0.
        world_size: number of processes.
        local_rank: the number of this process among those on its machine, from 0.
        store: a key-value store for what is not a tensor; None for a process without a launcher.

    Attributes:
        activity: what this rank is doing, for error messages, such as "step 12".
    """

    def __init__(
        self,
        *,
        device: torch.device,
        rank: int = 0,
        world_size: int = 1,
        local_rank: int = 0,
        store: Store | None = None,
    ) -> None:
        self.rank, self.world_size, self.local_rank, self.device = rank, world_size, local_rank, device
        self.activity = "the start"
        self._store = store

    @property
    def is_first(self) -> bool:
        """Whether this rank writes the files and prints the messages."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether no launcher started this process; one that is launched exchanges values even if it is the only one.

        So a single GPU shows whether NCCL and DDP work.
        """
        return self._store is None

    def any(self, flag: bool) -> bool:
        """Return whether the flag of any rank is set; exchanged on the host, so that no device has to wait."""
        if self.is_alone:
            return flag
        flags = torch.tensor(int(flag))
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        return bool(flags.item())

    def wait(self) -> None:
        """Return when all ranks have called this."""
        self.any(False)

    @contextmanager
    def first_on_host(self) -> Iterator[None]:
        """Let one process on each machine execute the block before the others."""
        if self.local_rank:
            self.wait()
        yield
        if not self.local_rank:
            self.wait()

    def sum_(self, *tensors: Tensor) -> None:
        """Replace floating-point tensors on this rank's device with their sums over all ranks, in one exchange."""
        if self.is_alone:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, total in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(total.view_as(tensor))

    def gather(self, tensor: Tensor) -> Tensor:
        """Return the tensors of all ranks, equal in shape, as (world_size, ...)."""
        if self.is_alone:
            return tensor[None]
        gathered = [torch.empty_like(tensor) for _ in range(self.world_size)]
        dist.all_gather(gathered, tensor.contiguous())
        return torch.stack(gathered)

    def share_bytes(self, content: bytes | None) -> bytes:
        """Return the content of the first rank, which must not be empty; the others need no access to its disk."""
        given = bytearray(content or b"")
        if not self.is_alone:
            num_bytes = torch.tensor(len(given))
            dist.broadcast(num_bytes, src=0)
            given = given if self.is_first else bytearray(int(num_bytes.item()))
            dist.broadcast(torch.frombuffer(given, dtype=torch.uint8), src=0)
        return bytes(given)

    def refuse_disagreement(self, description: Mapping[str, Any]) -> None:
        """Check that all ranks are about to do the same thing.

        Args:
            description: what this rank will do, in plain JSON types; nested mappings are compared entry by entry.

        Raises:
            ConfigError: if not; the error names the entries that differ, with the values of two ranks.
        """
        if self._store is None:
            return
        mine = json.dumps(description, sort_keys=True)
        self._store.set(f"description/{self.rank}", mine)
        digests = self.gather(torch.frombuffer(bytearray(hashlib.sha256(mine.encode()).digest()), dtype=torch.uint8))
        others = [rank for rank in range(self.world_size) if not torch.equal(digests[rank], digests[0])]
        if others:
            raise _disagreement(*(self._described(rank) for rank in (0, others[0])), rank=others[0])

    def _described(self, rank: int) -> dict[str, Any]:
        assert self._store is not None
        return dict(_entries("", json.loads(self._store.get(f"description/{rank}"))))


def _disagreement(first: dict[str, Any], other: dict[str, Any], *, rank: int) -> ConfigError:
    names = [name for name in sorted(first.keys() | other.keys()) if first.get(name) != other.get(name)]
    return ConfigError(
        f"ranks 0 and {rank} disagree about what to do",
        expected=", ".join(f"{name} {first.get(name)}" for name in names),
        got=", ".join(f"{name} {other.get(name)}" for name in names),
        do="start the processes on all machines with the same version, settings and shards",
    )


def _entries(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested mappings by their dotted names."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _entries(f"{path}.{name}" if path else name, part)
    else:
        yield path, value
