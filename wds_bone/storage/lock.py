"""Lock a folder, so that only one run of a command writes to it at a time.

In: the folder, and the command that is about to write to it.
Out: a lock, held while the `with` block runs.
Invariant: the lock is held until the writer and all its processes have ended; the kernel releases it, so that a killed
writer leaves no lock behind, on whichever host it ran.
"""

import errno
import fcntl
import os
import re
import socket
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from multiprocessing import reduction
from pathlib import Path
from typing import Any

from wds_bone.errors import ConfigError
from wds_bone.storage.durable import remove_temporaries, storage_errors, warn_once

WAIT_SECONDS = 2.0
# The child processes of a killed writer end by themselves, but on a busy machine it can take them several seconds.
WAIT_FOR_ORPHANS_SECONDS = 60.0
_RETRY_SECONDS = 0.05
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)
"""How file systems say that they have no locks: Lustre mounted without flock, NFS without a lock server, some FUSE."""


@dataclass
class Lock:
    """A lock that is held; a process that it is sent to holds it too.

    Attributes:
        descriptor: the open file descriptor of the lock file.
        is_shared: whether the lock has been sent to another process.
    """

    descriptor: int
    is_shared: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        self.is_shared = True
        return _restore_lock, (reduction.DupFd(self.descriptor),)


def lock_name(command: str) -> str:
    """Return the name of the lock file of a command, such as "train"."""
    return f"{command.replace('-', '_')}.lock"


@contextmanager
def folder_lock(
    folder: Path, command: str, *, files: Collection[str] = (), wait_seconds: float = WAIT_SECONDS
) -> Iterator[Lock]:
    """Create `folder` and hold its lock; this is also the first write to the folder.

    What killed runs of the command left under temporary names is deleted. On a file system without locks, a warning is
    printed.

    Args:
        folder: the folder; if it did not exist before and is empty at the end, it is deleted.
        command: the command that is about to write, such as "train".
        files: the names that the command writes in the folder; another command may be writing others.
        wait_seconds: how long to wait for another writer to end.

    Raises:
        ConfigError: if another run of the command holds the lock; the message names its process, host and start.
        WdsBoneError: if the folder cannot be created or written to.
    """
    path = folder / lock_name(command)
    with storage_errors(folder):
        is_new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
    with storage_errors(path):
        descriptor, is_locked = _open_locked(path, command, wait_seconds)
    lock = Lock(descriptor)
    try:
        with storage_errors(path):
            _write_holder(descriptor)
        if is_locked:
            remove_temporaries(folder, files)
        yield lock
    finally:
        with suppress(OSError):  # an error of the block is the one to report
            _release(lock, path, folder if is_new else None)


def _release(lock: Lock, path: Path, new_folder: Path | None) -> None:
    """Delete the lock file, unless a process that still runs holds it, and the folder, if it is empty."""
    if lock.is_shared:
        _delete_if_free(path, lock.descriptor)
    else:
        path.unlink()
        os.close(lock.descriptor)
    if new_folder is not None:
        new_folder.rmdir()


def _delete_if_free(path: Path, shared: int) -> None:
    """Close the descriptor `shared` of the lock file, and delete the file if no other process holds it open."""
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        os.close(shared)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(descriptor, path):
            path.unlink()
    finally:
        os.close(descriptor)


def _open_locked(path: Path, command: str, wait_seconds: float) -> tuple[int, bool]:
    """Open the lock file and lock it; return its descriptor, and whether the file system has locks."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            is_locked = _acquire(descriptor, path, command, wait_seconds)
            if not is_locked or _is_at(descriptor, path):
                return descriptor, is_locked
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its last holder has deleted the file in the meantime


def _acquire(descriptor: int, path: Path, command: str, wait_seconds: float) -> bool:
    """Lock the file and return True, or return False if its file system has no locks."""
    began = time.monotonic()
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
            limit = wait_seconds if may_be_alive(holder) else WAIT_FOR_ORPHANS_SECONDS
            if time.monotonic() - began > limit:
                raise _locked_error(holder, path, command) from None
            time.sleep(_RETRY_SECONDS)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            warn_once(
                f"{path.parent}: this file system has no locks ({error.strerror}); make sure that no other "
                f"`wds-bone {command}` writes to this folder"
            )
            return False


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _write_holder(descriptor: int) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{describe_holder()}\n".encode(), 0)


def describe_holder() -> str:
    """Return the process, host and start of a lock that this process is about to hold."""
    started = datetime.now().astimezone().isoformat(" ", "seconds")
    return f"process {os.getpid()} on {socket.gethostname()}, started {started}"


def may_be_alive(holder: str) -> bool:
    """Return False if the holder ran on this machine and has ended; then only its children still hold the lock."""
    found = re.fullmatch(r"process (\d+) on (\S+)(?:, started .*)?", holder)
    if found is None or found[2] != socket.gethostname():
        return True
    try:
        os.kill(int(found[1]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _locked_error(holder: str, path: Path, command: str) -> ConfigError:
    return ConfigError(
        f"{path}: another run of `wds-bone {command}` holds this lock",
        expected="no other writer",
        got=holder or "a writer that has just started",
        do="wait until it has finished, or write to another folder with --out",
    )


def _restore_lock(duplicate: Any) -> Lock:
    return Lock(duplicate.detach())
