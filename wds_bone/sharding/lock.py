"""One writer at a time: a lock on the folder of a set.

In: the folder. Out: a lock, held while the block runs. Invariant: nobody else writes while the writer or one of its
processes lives, and a writer that was killed leaves no lock behind (the kernel drops it).
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
from wds_bone.storage.durable import storage_errors

LOCK_NAME = "make_shards.lock"
WAIT_SECONDS = 2.0
# The processes of a killed writer end by themselves, on a busy machine after some seconds: a reason to wait for them.
WAIT_FOR_REMAINS_SECONDS = 60.0
_RETRY_SECONDS = 0.05


@dataclass(frozen=True)
class Lock:
    """A lock that is held; sent to another process, it is held there too."""

    descriptor: int

    def __reduce__(self) -> tuple[Any, ...]:
        return _take_over, (reduction.DupFd(self.descriptor),)


@contextmanager
def writer_lock(folder: Path, *, wait_seconds: float = WAIT_SECONDS) -> Iterator[Lock]:
    """Make `folder` and hold its lock; this is also the first write into the folder.

    Raises:
        ShardError: another writer holds it; names its process and host.
        WdsBoneError: the folder cannot be made or written to.
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
            patience = wait_seconds if _may_live(holder) else WAIT_FOR_REMAINS_SECONDS
            if time.monotonic() - began > patience:
                raise _locked(holder, path) from None
            time.sleep(_RETRY_SECONDS)


def _may_live(holder: str) -> bool:
    """Return False for a process of this machine that is gone: then only its own processes still hold the lock."""
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


def _locked(holder: str, path: Path) -> ShardError:
    return ShardError(
        f"{path}: another make_shards is writing into this folder",
        expected="no other writer",
        got=holder or "a writer that has just started",
        do="wait until it has finished, or write into another folder with --out",
    )


def _take_over(duplicate: Any) -> Lock:
    return Lock(duplicate.detach())
