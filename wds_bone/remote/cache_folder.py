"""Find, create, lock and delete the files of a cache.

In: the digests of shards.
Out: descriptors of their files.
Invariant: the folder and its files are private. A file that is not what its name says is deleted when it is opened.
Whoever has a file open holds a shared lock (flock) of it, which the kernel releases when the process ends, however it
ends.
"""

import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wds_bone.errors import ConfigError
from wds_bone.remote.part_file import flock
from wds_bone.storage.durable import storage_errors, sync_folder

LOCK_NAME = "cache.lock"
LOCK_SECONDS = 5.0
IDLE_SECONDS = 600.0
"""A shard that nobody has read for so long is not in use, even if a process has it open: longer than most validations,
during which the training shards wait. Tests make it shorter."""
_RETRY_SECONDS = 0.002
_DIGEST, _DIGEST_BYTES = re.compile(r"[0-9a-f]{64}"), 64
_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class CacheFolder:
    """A folder with a file `<sha256>.tar` for each shard, or `<sha256>.part` and `<sha256>.have`; and records.

    Args:
        folder: created with mode 0700 if it does not exist.

    Raises:
        ConfigError: if it belongs to somebody else, or others can write to it.
        WdsBoneError: if it cannot be created or written to.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with storage_errors(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check_private(folder)
            with self.locked() as is_locked:
                if is_locked:
                    self._remove_leftovers()

    def __str__(self) -> str:
        return str(self._folder)

    def open(self, sha256: str, suffix: str, num_bytes: int) -> int | None:
        """Return the open file, with a shared lock; None if there is none. Delete a file that is something else."""
        path = self.path(sha256, suffix)
        try:
            descriptor = os.open(path, _FLAGS)
        except FileNotFoundError:
            return None
        except OSError:  # a link, a folder, a socket, or a file of somebody else
            path.unlink()
            return None
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode) and (found.st_uid, found.st_size) == (os.geteuid(), num_bytes):
            flock(descriptor, fcntl.LOCK_SH)
            return descriptor
        os.close(descriptor)
        path.unlink()
        return None

    def create(self, sha256: str, suffix: str) -> int:
        """Create a file; a new one, because a process may still be using one that was given up."""
        path = self.path(sha256, suffix)
        path.unlink(missing_ok=True)
        return os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600)

    def publish(self, name: str, sha256: str) -> None:
        """Give the part `<name>.part` its final name, `<sha256>.tar`."""
        self.path(name, "part").rename(self.path(sha256, "tar"))
        self.path(name, "have").unlink()
        sync_folder(self._folder)

    def delete(self, sha256: str, descriptor: int) -> None:
        """Delete the file of a shard that is open as `descriptor`, unless another one has taken its place."""
        for suffix in ("part", "tar"):
            if self.is_at(descriptor, sha256, suffix):
                self.path(sha256, "have").unlink(missing_ok=True)
                self.path(sha256, suffix).unlink()

    def read_record(self, key: str) -> str | None:
        """Return the digest that is recorded under a key; None if there is none."""
        descriptor = self.open(key, "digest", _DIGEST_BYTES)
        if descriptor is None:
            return None
        with os.fdopen(descriptor, "rb") as file:
            found = _DIGEST.fullmatch(file.read().decode(errors="replace"))
        return found and found[0]

    def write_record(self, key: str, sha256: str) -> None:
        """Record a digest under a key."""
        with os.fdopen(self.create(key, "digest"), "wb") as file:
            file.write(sha256.encode())

    def lock_victim(self, name: str) -> int | None:
        """Return the open file of a shard that is not in use; None if it is."""
        descriptor = os.open(self._folder / name, _FLAGS)
        is_idle = name.endswith(".tar") and time.time() - os.fstat(descriptor).st_mtime > IDLE_SECONDS
        if flock(descriptor, fcntl.LOCK_EX) or is_idle:
            return descriptor
        os.close(descriptor)
        return None

    def evict(self, name: str, descriptor: int) -> None:
        """Delete the file that `lock_victim` returned; a process that has it open gives it up when it next reads it."""
        (self._folder / name).with_suffix(".have").unlink(missing_ok=True)
        (self._folder / name).unlink()
        os.ftruncate(descriptor, 0)  # otherwise that process would keep the space

    def files(self) -> dict[str, os.stat_result]:
        """Return the shards in the folder, complete or not, by the names of their files."""
        with os.scandir(self._folder) as entries:
            named = [entry for entry in entries if entry.name[64:] in (".tar", ".part")]
            return {entry.name: entry.stat() for entry in named if entry.is_file(follow_symlinks=False)}

    def half_of_disk(self) -> int:
        """Return half of the disk space that is not used otherwise, in bytes."""
        disk = os.statvfs(self._folder)
        return (disk.f_bavail * disk.f_frsize + sum(found.st_blocks * 512 for found in self.files().values())) // 2

    def path(self, sha256: str, suffix: str) -> Path:
        """Return the path of a file."""
        return self._folder / f"{sha256}.{suffix}"

    def is_at(self, descriptor: int, sha256: str, suffix: str) -> bool:
        """Return whether an open file still has this name."""
        try:
            return os.path.samestat(os.fstat(descriptor), self.path(sha256, suffix).lstat())
        except FileNotFoundError:
            return False

    @contextmanager
    def locked(self) -> Iterator[bool]:
        """Hold the lock of the folder; False if another process keeps it for longer than it ever should."""
        descriptor = os.open(self._folder / LOCK_NAME, _FLAGS | os.O_CREAT, 0o600)
        try:
            deadline = time.monotonic() + LOCK_SECONDS
            while not (is_locked := flock(descriptor, fcntl.LOCK_EX)) and time.monotonic() < deadline:
                time.sleep(_RETRY_SECONDS)
            yield is_locked
        finally:
            os.close(descriptor)

    def _remove_leftovers(self) -> None:
        """Delete halves that a killed process has left, and the records of shards that are gone."""
        names = {path.name for path in self._folder.iterdir()}
        for name in names:
            with suppress(OSError):  # a folder of this name
                if not self._needed_with(name) <= names:
                    (self._folder / name).unlink()

    def _needed_with(self, name: str) -> set[str]:
        """Return the names of the files without which a file is of no use."""
        stem, suffix = name[:64], name[64:]
        if suffix == ".digest":
            return {f"{self.read_record(stem)}.tar"}
        return {f"{stem}.have", f"{stem}.part"} if suffix in (".have", ".part") else set()


def _check_private(folder: Path) -> None:
    found = folder.stat()
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(
            f"{folder}: is not a private folder",
            expected="a folder of this user that nobody else can write to",
            got=f"a folder of user {found.st_uid}, mode {stat.S_IMODE(found.st_mode):04o}",
            do="name a folder that does not exist yet; it is created with mode 0700",
        )
