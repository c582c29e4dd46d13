"""Run trainings and evaluations with several processes on the CPU, started by `torchrun`."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.learn.runs import train_argv
from tests.servers.process import free_port

TRAIN, EVALUATE, RECORDING = "wds_bone.train", "wds_bone.evaluate", "tests.recording"
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "20", "PYTHONWARNINGS": "error::FutureWarning"}
RANK_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class LaunchResult:
    """The result of a launch: its exit code, and the output of all its processes."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def errors(self) -> list[str]:
        """The first lines of the error messages from wds_bone."""
        return [line for line in self.stderr.splitlines() if line.startswith("error: ")]


def torchrun(num_ranks: int, *module_and_argv: str) -> list[str]:
    """Return the command line that starts `num_ranks` processes on this machine."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(num_ranks)]
    # The default is the name of this machine, which only a DNS server can resolve.
    return [*launcher, "--local-addr", "127.0.0.1", "-m", *module_and_argv]


@contextmanager
def started(command: list[str], **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """Start a command in a new session; kill all its processes at the end."""
    inherited = {name: value for name, value in os.environ.items() if name not in RANK_VARIABLES}
    process = subprocess.Popen(
        command,
        env={**inherited, **ENVIRONMENT, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        for pid in [*processes_of(process.pid), process.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.communicate()


def finish(process: "subprocess.Popen[str]", *, timeout: float = 100.0) -> LaunchResult:
    """Wait for a launch to end."""
    stdout, stderr = process.communicate(timeout=timeout)
    return LaunchResult(process.returncode, stdout, stderr)


def argv_of(shards: Path, out: Path, *more: str) -> list[str]:
    """Return the command line of a run of two epochs, which are 14 steps of 6 samples."""
    return train_argv(shards, out, "--batch-size", "6", *more)


def launch(num_ranks: int, *module_and_argv: str, timeout: float = 300.0, **environment: str) -> LaunchResult:
    """Start `num_ranks` processes, and wait for them to end."""
    with started(torchrun(num_ranks, *module_and_argv), **environment) as process:
        return finish(process, timeout=timeout)


def start_by_hand(stack: ExitStack, argv: list[str], **variables: str) -> list[LaunchResult]:
    """Start two processes like the launchers on two hosts; each replaces `{rank}` in `argv` with its rank."""
    port = str(free_port())
    processes = [
        stack.enter_context(
            started(
                [sys.executable, "-m", TRAIN, *(word.replace("{rank}", str(rank)) for word in argv)],
                **{"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"},
                **{"MASTER_PORT": port, **variables},
            )
        )
        for rank in range(2)
    ]
    return [finish(process) for process in processes]


def processes_of(launcher: int) -> dict[int, int]:
    """Return the ranks of the processes that a launcher started, by process id."""
    ranks = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            variables = dict(entry.split("=", 1) for entry in (folder / "environ").read_text().split("\0") if entry)
        except (OSError, ValueError):
            continue
        if parent == launcher and "RANK" in variables:
            ranks[int(folder.name)] = int(variables["RANK"])
    return ranks


def process_of_rank(launcher: int, rank: int) -> int:
    """Return the process id of a rank."""
    (pid,) = (pid for pid, other in processes_of(launcher).items() if other == rank)
    return pid


def wait_for_lines(out: Path, num_lines: int, process: "subprocess.Popen[str]", *, timeout: float = 100.0) -> None:
    """Wait until a run has written `num_lines` lines of metrics."""
    deadline = time.monotonic() + timeout
    metrics = out / "metrics.jsonl"
    while not metrics.exists() or metrics.read_text().count("\n") < num_lines:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
