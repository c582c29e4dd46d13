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

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, Store, rendezvous  # type: ignore[attr-defined]

from wds_bone.config import USER_ERROR
from wds_bone.errors import ConfigError, WdsBoneError
from wds_bone.learn.ranks import Ranks

Value = TypeVar("Value")
ASIDE_SECONDS = 3.0
"""How long a rank whose neighbour went silent waits for the others to say what they know."""
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
    device = _own_device(device, local_rank)
    store = _meet(timeout_seconds)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    timeout = timedelta(seconds=timeout_seconds)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=timeout)
    own_store = PrefixStore("wds_bone", store)
    ranks = Ranks(device=device, rank=rank, world_size=world_size, store=own_store)
    try:
        yield ranks
    except Exception as error:
        _end_together(error, ranks, own_store)
    dist.destroy_process_group()


def say_once(prepare: Callable[[], Value]) -> Value:
    """Return `prepare()`, which all processes call before they meet; if it fails, one of each machine says why."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
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
    if local_rank >= torch.cuda.device_count():
        raise ConfigError(
            f"process {local_rank} of this machine finds no CUDA device of its own",
            expected=f"at least {local_rank + 1} devices",
            got=torch.cuda.device_count(),
            do="give torchrun a smaller --nproc-per-node, or --device cpu",
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def _meet(timeout_seconds: float) -> Store:
    place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    try:
        store: Store
        store, _, _ = next(rendezvous("env://", timeout=timedelta(seconds=timeout_seconds)))
    except (dist.DistError, ValueError) as error:
        raise ConfigError(
            f"the processes do not meet at {place}",
            expected=f"{os.environ['WORLD_SIZE']} processes within {timeout_seconds:g} seconds",
            got=str(error).partition("\n")[0],
            do="look whether that port is free and can be reached from every machine, or give another --master-port",
        ) from error
    return store


def _end_together(error: Exception, ranks: Ranks, store: Store) -> NoReturn:
    """Raise what this rank has to say, or leave quietly if another one has said it."""
    place = f"rank {ranks.rank} at {ranks.place}"
    if isinstance(error, RuntimeError) and (lost := _lost_ranks(ranks, store)) is not None:
        names = ", ".join(map(str, lost)) or "another one"
        error = WdsBoneError(
            f"rank {names} no longer answers",
            got=str(error).partition("\n")[0],
            do="look at that process and its machine, then run the same command again; it goes on from its checkpoint",
        )
    try:
        told = f"{ranks.rank} {error}"
        is_first_to_tell = store.compare_set("cause", "", told) == told.encode()
    except RuntimeError:  # the store went down with the launcher
        is_first_to_tell = True
    if not is_first_to_tell:
        sys.exit(USER_ERROR)
    if isinstance(error, WdsBoneError):
        problem = f"{place}: {error.problem}"
        raise type(error)(problem, expected=error.expected, got=error.got, do=error.do) from error
    raise error


def _lost_ranks(ranks: Ranks, store: Store) -> list[int] | None:
    """Return the ranks that do not answer when an exchange has failed; none of them known if another one tells a cause.

    None if all answer: then it was no exchange that failed.
    """
    arrivals = [f"aside/{rank}" for rank in range(ranks.world_size)]
    try:
        store.set(arrivals[ranks.rank], "here")
        deadline = time.monotonic() + ASIDE_SECONDS
        while time.monotonic() < deadline:
            if store.check(["cause"]):
                return []
            if store.check(arrivals):
                return None
            time.sleep(0.05)
        return [rank for rank, arrival in enumerate(arrivals) if not store.check([arrival])]
    except RuntimeError:  # the store went down with the launcher
        return []
