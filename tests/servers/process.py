"""Run a server in a process of its own for the time of a test.

In: a command line, and the line that the server prints when it is ready.
Out: what matches in that line, usually the port.
Invariant: the process is gone at the end, whatever happens.
"""

import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

READY_SECONDS = 120.0  # the machine may be busy with other tests


def skip_without(program: str, package: str) -> str:
    """Return the path of a program, or skip the test if it is not installed."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"needs `{program}` ({package})")
    return found


def free_port() -> int:
    """Return a port on which nothing listens, for programs that cannot let the system choose one."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def running(
    command: Sequence[str],
    *,
    ready: str,
    environment: Mapping[str, str] | None = None,
    descriptors: Sequence[int] = (),
) -> Iterator[re.Match[str]]:
    """Start a server, wait until it prints a line that matches `ready`, and stop it at the end."""
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            pass_fds=descriptors,
            start_new_session=True,  # Ctrl-C ends the tests first, and the tests end the server
        )
        try:
            yield _wait_for_line(process, Path(f"/proc/self/fd/{output.fileno()}"), ready)
        finally:
            _stop(process)


def _wait_for_line(process: subprocess.Popen[bytes], output: Path, ready: str) -> re.Match[str]:
    deadline = time.monotonic() + READY_SECONDS
    while (match := re.search(ready, output.read_text())) is None:
        assert process.poll() is None, f"the server has ended: {output.read_text()}"
        assert time.monotonic() < deadline, f"the server is not ready: {output.read_text()}"
        time.sleep(0.02)
    return match


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(timeout=10)
