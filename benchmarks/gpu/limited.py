"""Run a command for a limited time, and keep the end of its output.

In: a command line and a number of seconds.
Out: the exit code, and the last lines of the output.
Invariant: nothing that the command started is left if it was given a process group of its own.
"""

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import IO

ROOT = Path(__file__).parents[2]
TIMED_OUT = 124
"""The exit code of `timeout`, too."""
_TAIL_LINES = 60
_READ_SECONDS = 5.0


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, how long it took, and the last lines of what it printed."""

    exit_code: int
    seconds: float
    tail: tuple[str, ...]


def run_limited(command: Sequence[str], *, seconds: float, own_group: bool = False) -> Ended:
    """Run a command in the root of the repository, print its output, and kill it after some time.

    Args:
        command: the command line.
        seconds: how long it may take.
        own_group: start a new process group, and kill it at the end.
    """
    start, tail = time.monotonic(), deque[str](maxlen=_TAIL_LINES)
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=own_group,
    )
    printer = Thread(target=_print_lines, args=(process.stdout, tail), daemon=True)
    printer.start()
    try:
        exit_code = process.wait(timeout=max(0.0, seconds))
    except subprocess.TimeoutExpired:
        exit_code = TIMED_OUT
    finally:
        _kill(process, own_group=own_group)
    printer.join(_READ_SECONDS)
    return Ended(exit_code, time.monotonic() - start, tuple(tail))


def _kill(process: "subprocess.Popen[str]", *, own_group: bool) -> None:
    with suppress(ProcessLookupError):
        if own_group:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()


def _print_lines(output: IO[str], tail: "deque[str]") -> None:
    with output:
        for line in output:
            print(line, end="", flush=True)
            tail.append(line.rstrip("\n"))
