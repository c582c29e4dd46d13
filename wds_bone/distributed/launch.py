"""Connect the processes that `torchrun` started, and end them together; without it, run alone.

In: the environment variables of the launcher.
Out: `Ranks`.
Invariant: when one rank fails, all ranks end, and one of them reports why.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import timedelta
from pathlib import Path
from typing import NoReturn, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, Store, rendezvous  # type: ignore[attr-defined]

from wds_bone.command_line import USER_ERROR, is_first_on_host
from wds_bone.distributed.memory import refuse_small_shm
from wds_bone.distributed.ranks import Ranks
from wds_bone.errors import ConfigError, WdsBoneError
from wds_bone.interrupt import Interruption, is_launched

Value = TypeVar("Value")
DIAGNOSIS_SECONDS = 3.0
"""How long a rank that lost contact with another one waits for the others to report what they know."""
REPORT_SECONDS = 60.0
"""How long a silent process waits for the one that reports the errors of a machine, which may still be importing."""
_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_LAUNCH = "start with `torchrun --nproc-per-node N -m wds_bone.train ...` (or wds_bone.evaluate), or without a launcher"


@contextmanager
def open_ranks(device: torch.device, *, timeout_seconds: float, interruption: Interruption) -> Iterator[Ranks]:
    """Join the other processes of a launch by `torchrun`, if there is one.

    An error inside the block ends all ranks: the first one to fail reports its number and the cause; the others exit
    without a message.

    Args:
        device: cpu, or cuda, in which case each rank takes its own device.
        timeout_seconds: how long a rank waits for another one.
        interruption: receives the signals. When a rank fails, the launcher tells the others to stop; it does not
            interrupt them while they find out which one failed.

    Raises:
        ConfigError: if the launch is incomplete, or its processes cannot connect.
        WdsBoneError: from the block, or if another rank is lost.
        SystemExit: with code 2, if another rank reports the cause.
    """
    check_launch()
    if not is_launched():
        yield Ranks(device=device)
        return
    rank, world_size, local_rank = (int(os.environ[name]) for name in _VARIABLES[:3])
    device = report_errors_once(lambda: _own_device(device, local_rank))
    store = _connect(device, rank=rank, world_size=world_size, timeout_seconds=timeout_seconds)
    ranks = Ranks(device=device, rank=rank, world_size=world_size, local_rank=local_rank, store=store)
    try:
        yield ranks
    except Exception as error:
        with interruption.deferred():
            _end_together(error, ranks, store)
    dist.destroy_process_group()


def report_errors_once(prepare: Callable[[], Value]) -> Value:
    """Return `prepare()`, which all processes call before they connect; if it fails, one per machine reports it.

    The first process that ends makes the launcher end the others. So the silent ones wait to be ended, until the one
    that reports has had the time to start; if it has not failed by then, they report the error themselves.
    """
    if "RANK" not in os.environ or is_first_on_host():
        return prepare()
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        try:
            return prepare()
        except WdsBoneError:
            time.sleep(REPORT_SECONDS)
            raise


def check_launch() -> None:
    """Refuse a launch whose processes could not find each other.

    Raises:
        ConfigError: if variables are missing, or if Slurm started several processes without a launcher.
    """
    if not is_launched() and int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        raise ConfigError(
            "several processes were started that do not know about each other",
            expected=", ".join(_VARIABLES),
            got=f"SLURM_STEP_NUM_TASKS={os.environ['SLURM_STEP_NUM_TASKS']}",
            do="have srun start one `torchrun` per node, as in examples/slurm.sh",
        )
    missing = [name for name in _VARIABLES if name not in os.environ]
    if is_launched() and missing:
        raise ConfigError(
            "the launch is incomplete",
            expected=f"the variables {', '.join(_VARIABLES)}",
            got=f"no {', '.join(missing)}",
            do=_LAUNCH,
        )


def _own_device(device: torch.device, local_rank: int) -> torch.device:
    if device.type != "cuda":
        return device
    num_processes = max(local_rank + 1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    if num_processes > torch.cuda.device_count():
        raise ConfigError(
            f"{num_processes} processes on this machine need a CUDA device each",
            expected=f"at least {num_processes} devices",
            got=torch.cuda.device_count(),
            do="pass torchrun a smaller --nproc-per-node, or use --device cpu",
        )
    refuse_small_shm(num_processes)
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def _connect(device: torch.device, *, rank: int, world_size: int, timeout_seconds: float) -> Store:
    """Join the process group, and return a store for this launch only, through which ranks exchange messages."""
    address, timeout = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}", timedelta(seconds=timeout_seconds)
    # CPU tensors use Gloo even with GPUs: values that the host needs must not wait for the device.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        store, _, _ = next(rendezvous("env://", timeout=timeout))
        # A launcher that restarts its processes keeps the store, with what the previous ones wrote to it.
        store = PrefixStore(f"wds_bone/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=timeout)
        nonce = torch.from_numpy(np.frombuffer(os.urandom(8), np.int64).copy())
        dist.broadcast(nonce, src=0)
    except (dist.DistError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"the processes cannot connect to each other at {address}",
            expected=f"{world_size} processes within {timeout_seconds:g} seconds",
            got=str(error).partition("\n")[0],
            do="check that this port is free and reachable from every machine, or use another --master-port; "
            "GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME select the network interface",
        ) from error
    return PrefixStore(str(nonce.item()), store)


def _end_together(error: Exception, ranks: Ranks, store: Store) -> NoReturn:
    """Raise the error of this rank, or exit without a message if another rank has reported one."""
    where, lost = f"rank {ranks.rank} at {ranks.activity}", []
    if _is_communication_error(error):
        lost = _lost_ranks(ranks, store)
        error = WdsBoneError(
            f"rank {' or '.join(map(str, lost))} does not respond" if lost else "another rank does not respond",
            got=str(error).partition("\n")[0],
            do="check that process and its machine, then run the same command again; a training run resumes",
        )
    others = [rank for rank in range(ranks.world_size) if rank not in lost]
    if not _is_first_to_report(f"{ranks.rank} {error}", ranks, store, others=others):
        sys.exit(USER_ERROR)
    if isinstance(error, WdsBoneError):
        problem = f"{where}: {error.problem}"
        raise type(error)(problem, expected=error.expected, got=error.got, do=error.do) from error
    raise error


def _is_communication_error(error: Exception) -> bool:
    """Return whether an exchange between ranks failed; in a backward pass, only the text of the error says so."""
    is_named = isinstance(error, RuntimeError) and any(name in str(error) for name in ("gloo", "NCCL", "ProcessGroup"))
    return is_named or isinstance(error, dist.DistError)


def _is_first_to_report(cause: str, ranks: Ranks, store: Store, *, others: Sequence[int]) -> bool:
    """Return whether this rank is the first with a cause to report; if the store is gone, one rank per machine is."""
    try:
        is_first = store.compare_set("cause", "", cause) == cause.encode()
        store.set(f"done/{ranks.rank}", "")
        if ranks.is_first:  # its process may host the store, which the other ranks still need
            _wait_for(store, [f"done/{rank}" for rank in others])
    except RuntimeError:
        return ranks.local_rank == 0
    return is_first


def _lost_ranks(ranks: Ranks, store: Store) -> list[int]:
    """Return the ranks that do not respond; empty if another rank reports a cause, or the store is gone as well.

    With four or more ranks, some that are alive may be included: a rank that is still
    waiting for one that is already here does not respond, although it is alive.
    """
    arrivals = [f"here/{rank}" for rank in range(ranks.world_size)]
    try:
        store.set(arrivals[ranks.rank], "")
        _wait_for(store, arrivals, unless="cause")
        if store.check(["cause"]):
            return []
        return [rank for rank, arrival in enumerate(arrivals) if not store.check([arrival])]
    except RuntimeError:
        return []


def _wait_for(store: Store, names: list[str], *, unless: str | None = None) -> None:
    """Wait until all `names` are in the store, or `unless` is, but at most `DIAGNOSIS_SECONDS`."""
    deadline = time.monotonic() + DIAGNOSIS_SECONDS
    while time.monotonic() < deadline and not store.check(names) and not (unless and store.check([unless])):
        time.sleep(0.05)
