"""The processes that `torchrun` started find each other, and end together; without it, this process is alone.

In come the launcher's variables, out come `Ranks`. The invariant: when one rank fails, every one ends, and one of them
says why.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import timedelta
from pathlib import Path
from typing import NoReturn, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, Store, rendezvous  # type: ignore[attr-defined]

from wds_bone.config import USER_ERROR
from wds_bone.distributed.ranks import Ranks
from wds_bone.errors import ConfigError, WdsBoneError

Value = TypeVar("Value")
LAUNCHER_SECONDS = 2.0
"""Within so long a launcher repeats a signal that the terminal has sent to its processes already."""
ASIDE_SECONDS = 3.0
"""How long a rank whose neighbor went silent waits for the others to say what they know."""
_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_LAUNCH = "start with `torchrun --nproc-per-node N -m wds_bone.train ...`, or without a launcher for one process"


@contextmanager
def open_ranks(device: torch.device, *, timeout_seconds: float) -> Iterator[Ranks]:
    """Meet the other processes of a launch by `torchrun`, if there is one.

    An error inside the block ends all ranks: the first to fail names itself and says why; the others leave quietly.

    Args:
        device: where this rank computes: cpu, or cuda, of which it takes its own.
        timeout_seconds: how long a rank waits for another one.

    Raises:
        ConfigError: a launch that is not complete, or whose processes do not find each other.
        WdsBoneError: from the block; also when another rank is lost.
        SystemExit: with code 2, when another rank says why the run ends.
    """
    if not is_launched():
        yield Ranks(device=device)
        return
    rank, world_size, local_rank = (int(os.environ[name]) for name in _VARIABLES[:3])
    device = say_once(lambda: _own_device(device, local_rank))
    store = _meet(device, rank=rank, world_size=world_size, timeout_seconds=timeout_seconds)
    ranks = Ranks(device=device, rank=rank, world_size=world_size, local_rank=local_rank, store=store)
    try:
        yield ranks
    except Exception as error:
        _end_together(error, ranks, store)
    dist.destroy_process_group()


def say_once(prepare: Callable[[], Value]) -> Value:
    """Return `prepare()`, which all processes call before they meet; if it fails, one of each machine says why."""
    if "RANK" not in os.environ or os.environ.get("LOCAL_RANK", "0") == "0":
        return prepare()
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        try:
            return prepare()
        except WdsBoneError:
            sys.exit(USER_ERROR)


def is_launched() -> bool:
    """Return whether a launcher started this process as one of several.

    Raises:
        ConfigError: it looks like that, but not all is there that the processes need to find each other.
    """
    missing = [name for name in _VARIABLES if name not in os.environ]
    if "RANK" not in os.environ and "WORLD_SIZE" not in os.environ:
        if int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
            raise ConfigError(
                "several processes that do not know of each other",
                expected=", ".join(_VARIABLES),
                got=f"SLURM_STEP_NUM_TASKS={os.environ['SLURM_STEP_NUM_TASKS']}",
                do="have srun start one `torchrun` a node, as examples/slurm.sh does",
            )
        return False
    if missing:
        raise ConfigError(
            "an incomplete launch",
            expected=f"the variables {', '.join(_VARIABLES)}",
            got=f"no {', '.join(missing)}",
            do=_LAUNCH,
        )
    return True


def _own_device(device: torch.device, local_rank: int) -> torch.device:
    if device.type != "cuda":
        return device
    num_processes = max(local_rank + 1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    if num_processes > torch.cuda.device_count():
        raise ConfigError(
            f"{num_processes} processes of this machine do not find a CUDA device each",
            expected=f"at least {num_processes} devices",
            got=torch.cuda.device_count(),
            do="give torchrun a smaller --nproc-per-node, or --device cpu",
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def _meet(device: torch.device, *, rank: int, world_size: int, timeout_seconds: float) -> Store:
    """Join the process group, and return a store of this launch alone, where ranks leave words for each other."""
    address, timeout = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}", timedelta(seconds=timeout_seconds)
    # CPU tensors go by gloo on GPUs, too: what the host wants to know shall not wait for the device.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        store, _, _ = next(rendezvous("env://", timeout=timeout))
        # A launcher that starts its processes again keeps the store, and what the last ones wrote there.
        store = PrefixStore(f"wds_bone/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=timeout)
        nonce = torch.from_numpy(np.frombuffer(os.urandom(8), np.int64).copy())
        dist.broadcast(nonce, src=0)
    except (dist.DistError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"the processes do not meet at {address}",
            expected=f"{world_size} processes within {timeout_seconds:g} seconds",
            got=str(error).partition("\n")[0],
            do="look whether that port is free and can be reached from every machine, or give another --master-port; "
            "GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME say which network device to take",
        ) from error
    return PrefixStore(str(nonce.item()), store)


def _end_together(error: Exception, ranks: Ranks, store: Store) -> NoReturn:
    """Raise what this rank has to say, or leave quietly if another one has said it."""
    where = f"rank {ranks.rank} at {ranks.activity}"
    if _is_lost_exchange(error):
        lost = _lost_ranks(ranks, store)
        error = WdsBoneError(
            f"rank {' or '.join(map(str, lost))} no longer answers" if lost else "another rank no longer answers",
            got=str(error).partition("\n")[0],
            do="look at that process and its machine, then run the same command again; it goes on from its checkpoint",
        )
    if not _may_tell(f"{ranks.rank} {error}", ranks, store):
        sys.exit(USER_ERROR)
    if isinstance(error, WdsBoneError):
        problem = f"{where}: {error.problem}"
        raise type(error)(problem, expected=error.expected, got=error.got, do=error.do) from error
    raise error


def _is_lost_exchange(error: Exception) -> bool:
    """Return whether it was an exchange between ranks that failed; within a backward pass PyTorch says it in words."""
    words = isinstance(error, RuntimeError) and any(name in str(error) for name in ("gloo", "NCCL", "ProcessGroup"))
    return words or isinstance(error, dist.DistError)


def _may_tell(cause: str, ranks: Ranks, store: Store) -> bool:
    """Return whether this rank is the first that has something to tell; of each machine one, if the store is gone."""
    try:
        is_first = store.compare_set("cause", "", cause) == cause.encode()
        store.set(f"heard/{ranks.rank}", "")
        if ranks.is_first:  # its process may hold the store, which the others still have to ask
            _wait_for(store, [f"heard/{rank}" for rank in range(ranks.world_size)])
    except RuntimeError:
        return ranks.local_rank == 0
    return is_first


def _lost_ranks(ranks: Ranks, store: Store) -> list[int]:
    """Return the ranks that do not answer; empty if another one tells a cause, or the store has gone down as well.

    One that waits for a rank which has come aside does not answer either: of four and more, some are named that live.
    """
    arrivals = [f"aside/{rank}" for rank in range(ranks.world_size)]
    try:
        store.set(arrivals[ranks.rank], "")
        _wait_for(store, arrivals, unless="cause")
        if store.check(["cause"]):
            return []
        return [rank for rank, arrival in enumerate(arrivals) if not store.check([arrival])]
    except RuntimeError:
        return []


def _wait_for(store: Store, names: list[str], *, unless: str | None = None) -> None:
    """Wait until all `names` are in the store, or `unless` is, but not longer than `ASIDE_SECONDS`."""
    deadline = time.monotonic() + ASIDE_SECONDS
    while time.monotonic() < deadline and not store.check(names) and not (unless and store.check([unless])):
        time.sleep(0.05)
