"""Lock the folder of a set, so that only one run writes to it at a time.

In: the folder.
Out: a lock, held while the `with` block runs.
Invariant: the lock is held until the writer and all its processes have ended; the kernel releases it, so that a killed
writer leaves no lock behind.
"""

import fcntl
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import reduction
from pathlib import Path
from typing import Any

from wds_bone.errors import ShardError
from wds_bone.shards.manifest import LOCK_NAME
from wds_bone.storage.durable import storage_errors

WAIT_SECONDS = 2.0
# The child processes of a killed writer end by themselves, but on a busy machine it can take them several seconds.
WAIT_FOR_ORPHANS_SECONDS = 60.0
_RETRY_SECONDS = 0.05


@dataclass(frozen=True)
class Lock:
    """A lock that is held; a process that it is sent to holds it too."""

    descriptor: int

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore_lock, (reduction.DupFd(self.descriptor),)


@contextmanager
def writer_lock(folder: Path, *, wait_seconds: float = WAIT_SECONDS) -> Iterator[Lock]:
    """Create `folder` and hold its lock; this is also the first write to the folder.

    Raises:
        ShardError: if another writer holds the lock; the message names its process and host.
        WdsBoneError: if the folder cannot be created or written to.
    """
    path = folder / LOCK_NAME
    with storage_errors(path):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        with storage_errors(path):
            _acquire(descriptor, path, wait_seconds)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield Lock(descriptor)
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: Path, wait_seconds: float) -> None:
    began = time.monotonic()
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
            limit = wait_seconds if _may_be_alive(holder) else WAIT_FOR_ORPHANS_SECONDS
            if time.monotonic() - began > limit:
                raise _locked_error(holder, path) from None
            time.sleep(_RETRY_SECONDS)


def _may_be_alive(holder: str) -> bool:
    """Return False if the holder ran on this machine and has ended; then only its children still hold the lock."""
    found = re.fullmatch(r"process (\d+) on (.*)", holder)
    if found is None or found[2] != socket.gethostname():
        return True
    try:
        os.kill(int(found[1]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _locked_error(holder: str, path: Path) -> ShardError:
    return ShardError(
        f"{path}: another run of `wds-bone make-shards` holds this lock",
        expected="no other writer",
        got=holder or "a writer that has just started",
        do="wait until it has finished, or write to another folder with --out",
    )


def _restore_lock(duplicate: Any) -> Lock:
    return Lock(duplicate.detach())
