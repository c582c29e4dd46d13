"""Start a Dask scheduler, and workers for it, as processes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from distributed import Client

from tests.sharding.film_sets import DEADLINE_SECONDS, wait_until

Process = subprocess.Popen[bytes]


@dataclass(frozen=True)
class Scheduler:
    """A scheduler that is running."""

    address: str
    process: Process
    folder: Path

    @contextmanager
    def workers(
        self, number: int, *, wrapper: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> Iterator[list[Process]]:
        """Start workers with one thread each in another folder than that of this process; at the end, kill them."""
        options = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(self.folder)]
        command = [*wrapper, sys.executable, "-m", "dask", "worker", self.address, *options]
        with ExitStack() as stack:
            started = [stack.enter_context(_running(command, self.folder, environment or {})) for _ in range(number)]
            self._wait_for_workers(number)
            yield started
        if self.process.poll() is None:
            self._wait_for_workers(0)

    def _wait_for_workers(self, number: int) -> None:
        with Client(self.address, set_as_default=False, timeout=DEADLINE_SECONDS) as client:
            wait_until(lambda: len(client.nthreads()) == number)


@contextmanager
def running_scheduler(folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[Scheduler]:
    """Start a scheduler that keeps its files in `folder`; at the end, kill it."""
    file = folder / "scheduler.json"
    command = [sys.executable, "-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", "0"]
    command += ["--no-dashboard", "--dashboard-address", ":0", "--scheduler-file", str(file)]
    with _running(command, folder, environment or {}) as process:
        wait_until(lambda: file.exists() and file.read_text().endswith("}"))
        yield Scheduler(json.loads(file.read_text())["address"], process, folder)


@contextmanager
def _running(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Iterator[Process]:
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, env={**os.environ, **environment}, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait(DEADLINE_SECONDS)
