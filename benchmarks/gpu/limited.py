"""Run a command for a limited time, and keep the end of its output.

In: a command line and a number of seconds.
Out: the exit code, and the last lines of the output.
Invariant: a command that takes too long is interrupted first, as by Ctrl-C, so that it can end what it has started in
other sessions. Nothing is left of its own process group, if it was given one.
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
STOP_SECONDS = 10.0
"""How long a command that was interrupted may take to end, before it is killed."""
_TAIL_LINES = 60
_READ_SECONDS = 5.0


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, how long it took, and the last lines of what it printed."""

    exit_code: int
    seconds: float
    tail: tuple[str, ...]


def run_limited(
    command: Sequence[str], *, seconds: float, own_group: bool = False, stop_seconds: float = STOP_SECONDS
) -> Ended:
    """Run a command in the root of the repository, print its output, and end it after some time.

    Args:
        command: the command line.
        seconds: how long it may take.
        own_group: start a new process group, and kill it at the end.
        stop_seconds: how long it may take to end once it was interrupted.
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
        _stop(process, own_group=own_group, seconds=stop_seconds)
    printer.join(_READ_SECONDS)
    return Ended(exit_code, time.monotonic() - start, tuple(tail))


def _stop(process: "subprocess.Popen[str]", *, own_group: bool, seconds: float) -> None:
    """Interrupt a process that has not ended, and kill it if that does not help."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=seconds)
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
