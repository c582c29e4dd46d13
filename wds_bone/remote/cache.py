"""Keep shards of object storage in a local folder, shared by all processes of a host.

In: shards, and when each is needed next.
Out: `PartFile`s.
Invariant: `<sha256>.tar` has been compared with its digest before it got its name; `<sha256>.part` is on its way. All
files together are not larger than the bound. A file that is in use is never evicted: whoever has it open holds a shared
lock (flock) of it, which the kernel releases when the process ends, however it ends.

A file that is not what its name says is replaced: one of another size, kind or owner when it is opened, and one with
wrong bytes when a sample fails its checksum.
"""

import errno
import fcntl
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from wds_bone.errors import ConfigError
from wds_bone.remote.part_file import PartFile, flock
from wds_bone.remote.shard import RemoteShard
from wds_bone.storage.durable import storage_errors, sync_folder, warn_once

LOCK_NAME = "cache.lock"
MAX_OPEN_SHARDS = 256
LOCK_SECONDS = 5.0
NEVER = 2**62
"""When a shard is needed next that is not needed any more."""
NextUse = Callable[[], Mapping[str, int]]
_RETRY_SECONDS = 0.002
_HASHED_BYTES = 2**20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def default_folder() -> Path:
    """Return the folder of the cache where none is named: `wds_bone` in the user's folder for caches."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "wds_bone"


class Cache:
    """A folder of shards. Thread-safe.

    Args:
        folder: created with mode 0700 if it does not exist.
        max_bytes: bound of the sizes of all shards in it; None takes half of the disk space that is not used otherwise.

    Raises:
        ConfigError: if the folder belongs to somebody else, or others can write to it.
        WdsBoneError: if it cannot be created or written to.
    """

    def __init__(self, folder: Path, max_bytes: int | None = None) -> None:
        self._folder, self._open, self._is_full = folder, dict[str, PartFile](), False
        with storage_errors(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check_private(folder)
            self._lock_file = os.open(folder / LOCK_NAME, _FLAGS | os.O_CREAT, 0o600)
            os.close(self._lock_file)
        self._max_bytes = self._half_of_disk() if max_bytes is None else max_bytes

    def open(self, shard: RemoteShard, next_use: NextUse) -> PartFile | None:
        """Return the file of a shard, which is created if there is room; None if there is none.

        Args:
            shard: a shard.
            next_use: returns by digest in how many samples a shard is needed next; one that is missing is not needed.
        """
        if (opened := self._open.get(shard.sha256)) is not None:
            return opened
        try:
            with self._locked() as is_locked:
                opened = self._open_existing(shard) or (self._create(shard, next_use) if is_locked else None)
        except OSError as error:
            self._give_up(error)
            return None
        if opened is not None:
            self._keep(opened)
        return opened

    def publish(self, part: PartFile) -> bool:
        """Compare a complete part with its digest and give it its final name; return False if it is damaged.

        A damaged part is cleared.
        """
        if _sha256_of(part.descriptor) != part.shard.sha256:
            part.clear()
            return False
        name = part.shard.sha256
        with suppress(OSError), self._locked() as is_locked:
            os.fsync(part.descriptor)
            if is_locked and _is_at(part.descriptor, self._path(name, "part")):
                self._path(name, "part").rename(self._path(name, "tar"))
                self._path(name, "have").unlink()
                part.finish()
                sync_folder(self._folder)
        return True

    def drop(self, part: PartFile, error: OSError | None = None) -> None:
        """Delete the file of a shard, which is damaged, or could not be written because of `error`."""
        part.is_dropped = True
        self._open.pop(part.shard.sha256, None)
        with suppress(OSError), self._locked():
            for suffix in ("part", "tar"):
                if _is_at(part.descriptor, path := self._path(part.shard.sha256, suffix)):
                    path.with_suffix(".have").unlink(missing_ok=True)
                    path.unlink()
        if error is not None:
            self._give_up(error)

    def forget(self, part: PartFile, segment: int) -> None:
        """Have a segment with wrong bytes fetched again; all of a shard that was published."""
        if part.is_complete:
            self.drop(part)
        else:
            part.release(segment, segment + 1)

    def parts(self) -> list[PartFile]:
        """Return the files that are open."""
        return list(self._open.values())

    def close(self) -> None:
        """Close the files; one that is being read is closed afterwards."""
        self._open.clear()

    def _give_up(self, error: OSError) -> None:
        """Continue without new shards in the cache."""
        self._is_full = True
        reason = "the disk is full" if error.errno in _FULL else error.strerror
        warn_once(f"{self._folder}: the cache cannot be written ({reason}); its other shards are read without it")

    def _keep(self, part: PartFile) -> None:
        self._open[part.shard.sha256] = part
        while len(self._open) > MAX_OPEN_SHARDS:
            with suppress(KeyError, StopIteration, RuntimeError):  # another thread did it
                del self._open[next(iter(self._open))]

    def _open_existing(self, shard: RemoteShard) -> PartFile | None:
        if (descriptor := self._open_file(shard, "tar", shard.num_bytes)) is not None:
            return PartFile(shard, descriptor, None)
        marks = self._open_file(shard, "have", shard.num_segments + 1)
        descriptor = self._open_file(shard, "part", shard.num_bytes)
        if marks is None or descriptor is None:
            for left in (marks, descriptor):
                if left is not None:
                    os.close(left)
            return None
        part = PartFile(shard, descriptor, marks)
        if flock(descriptor, fcntl.LOCK_EX):
            part.clear_claims()
        flock(descriptor, fcntl.LOCK_SH)  # in either case: an attempt that fails has lost the lock that there was
        return part

    def _open_file(self, shard: RemoteShard, suffix: str, num_bytes: int) -> int | None:
        """Return the open file, with a shared lock; None if there is none. Delete a file that is something else."""
        path = self._path(shard.sha256, suffix)
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

    def _create(self, shard: RemoteShard, next_use: NextUse) -> PartFile | None:
        if self._is_full or not self._make_room(shard, next_use):
            return None
        marks = self._create_file(shard, "have")
        try:
            os.pwrite(marks, bytes(shard.num_segments + 1), 0)
            descriptor = self._create_file(shard, "part")
        except OSError:
            os.close(marks)
            raise
        part = PartFile(shard, descriptor, marks)
        os.ftruncate(descriptor, shard.num_bytes)
        flock(descriptor, fcntl.LOCK_SH)
        return part

    def _create_file(self, shard: RemoteShard, suffix: str) -> int:
        """Create a file; a new one, because a process may still be using one that was given up."""
        path = self._path(shard.sha256, suffix)
        path.unlink(missing_ok=True)
        return os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600)

    def _make_room(self, shard: RemoteShard, next_use: NextUse) -> bool:
        """Delete what is needed last until a shard fits; nothing that is needed sooner than the shard has samples."""
        files = self._files()
        excess = sum(found.st_size for found in files.values()) + shard.num_bytes - self._max_bytes
        if excess <= 0 or shard.num_bytes > self._max_bytes:
            return excess <= 0
        victims: dict[str, int] = {}
        for name in _needed_last(files, next_use(), shard.num_segments):
            if excess > 0 and (descriptor := self._lock_victim(name)) is not None:
                victims[name], excess = descriptor, excess - files[name].st_size
        for name, descriptor in victims.items():
            if excess <= 0:
                (self._folder / name).with_suffix(".have").unlink(missing_ok=True)
                (self._folder / name).unlink()
            os.close(descriptor)
        return excess <= 0

    def _lock_victim(self, name: str) -> int | None:
        """Return a file with an exclusive lock; None if it is in use."""
        self._open.pop(name[:64], None)
        descriptor = os.open(self._folder / name, _FLAGS)
        if flock(descriptor, fcntl.LOCK_EX):
            return descriptor
        os.close(descriptor)
        return None

    def _files(self) -> dict[str, os.stat_result]:
        """Return the shards in the folder."""
        with os.scandir(self._folder) as entries:
            named = [entry for entry in entries if entry.name[64:] in (".tar", ".part")]
            return {entry.name: entry.stat() for entry in named if entry.is_file(follow_symlinks=False)}

    def _half_of_disk(self) -> int:
        disk = os.statvfs(self._folder)
        return (disk.f_bavail * disk.f_frsize + sum(found.st_blocks * 512 for found in self._files().values())) // 2

    def _path(self, sha256: str, suffix: str) -> Path:
        return self._folder / f"{sha256}.{suffix}"

    @contextmanager
    def _locked(self) -> Iterator[bool]:
        """Hold the lock of the folder; False if another process keeps it for longer than it ever should."""
        descriptor = os.open(self._folder / LOCK_NAME, _FLAGS | os.O_CREAT, 0o600)
        try:
            deadline = time.monotonic() + LOCK_SECONDS
            while not (is_locked := flock(descriptor, fcntl.LOCK_EX)) and time.monotonic() < deadline:
                time.sleep(_RETRY_SECONDS)
            yield is_locked
        finally:
            os.close(descriptor)


def _needed_last(files: Mapping[str, os.stat_result], next_use: Mapping[str, int], num_samples: int) -> list[str]:
    """Return the files that are not needed for `num_samples`, what is needed last first, then what is oldest."""
    distances = {name: next_use.get(name.partition(".")[0], NEVER) for name in files}
    names = [name for name in files if distances[name] >= num_samples]
    return sorted(names, key=lambda name: (-distances[name], files[name].st_mtime))


def _check_private(folder: Path) -> None:
    found = folder.stat()
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(
            f"{folder}: is not a private folder",
            expected="a folder of this user that nobody else can write to",
            got=f"a folder of user {found.st_uid}, mode {stat.S_IMODE(found.st_mode):04o}",
            do="name a folder that does not exist yet; it is created with mode 0700",
        )


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _sha256_of(descriptor: int) -> str:
    digest, offset = hashlib.sha256(), 0
    while contents := os.pread(descriptor, _HASHED_BYTES, offset):
        digest.update(contents)
        offset += len(contents)
    return digest.hexdigest()
