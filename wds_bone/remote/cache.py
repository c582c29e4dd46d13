"""Keep shards of object storage in a local folder, shared by all processes of a host.

In: shards, and when each is needed next.
Out: `PartFile`s.
Invariant: `<sha256>.tar` has been compared with its digest before it got its name; `<sha256>.part` is on its way. All
files together are not larger than the bound. A file that is in use is never evicted: one that this process needs soon,
that another process is fetching, or has open and has read in the last ten minutes.

A file that is not what its name says is replaced: one of another size, kind or owner when it is opened, and one with
wrong bytes when a sample fails its checksum.
"""

import errno
import fcntl
import hashlib
import os
import resource
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from wds_bone.remote.cache_folder import CacheFolder
from wds_bone.remote.part_file import PartFile, flock
from wds_bone.remote.shard import RemoteShard
from wds_bone.storage.durable import warn_once

MAX_OPEN_SHARDS, FILES_PER_SHARD = 256, 16
"""How many shards are kept open: one for so many of the files that a process may open (`ulimit -n`)."""
NEVER = 2**62
"""When a shard is needed next that is not needed any more."""
NextUse = Callable[[], Mapping[str, int]]
_HASHED_BYTES = 2**20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def default_folder() -> Path:
    """Return the folder of the cache where none is named: `wds_bone` in the user's folder for caches."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "wds_bone"


class Cache:
    """A folder of shards. Thread-safe.

    Args:
        folder: created with mode 0700 if it does not exist.
        max_bytes: bound of the sizes of all shards in it; None takes half of the disk space that is not used otherwise.

    Attributes:
        folder: its files.

    Raises:
        ConfigError: if the folder belongs to somebody else, or others can write to it.
        WdsBoneError: if it cannot be created or written to.
    """

    def __init__(self, folder: Path, max_bytes: int | None = None) -> None:
        self.folder, self._open, self._is_full = CacheFolder(folder), dict[str, PartFile](), False
        self._max_bytes = self.folder.half_of_disk() if max_bytes is None else max_bytes
        self._max_open = _max_open_shards()

    def open(self, shard: RemoteShard, next_use: NextUse) -> PartFile | None:
        """Return the file of a shard, which is created if there is room; None if there is none.

        Args:
            shard: a shard.
            next_use: returns by digest in how many samples a shard is needed next; one that is missing is not needed.
        """
        if (opened := self._open.get(shard.sha256)) is not None:
            return opened
        try:
            with self.folder.locked() as is_locked:
                opened = self._open_existing(shard) or (self._create(shard, next_use) if is_locked else None)
        except OSError as error:
            self._give_up(error)
            return None
        if opened is not None:
            self._keep(opened)
        return opened

    def publish(self, part: PartFile) -> str | None:
        """Compare a complete part with its digest, and give it its final name.

        A damaged part is cleared.

        Returns:
            None, or the digest of a damaged part.
        """
        if (found := sha256_of(part.descriptor)) != part.shard.sha256:
            part.clear()
            return found
        self._publish(part, found)
        return None

    def publish_whole(self, part: PartFile) -> None:
        """Name a complete part, whose digest was not known, after its digest; record the digest under its old name."""
        found, old = sha256_of(part.descriptor), part.shard.sha256
        self._publish(part, found)
        self._open.pop(old, None)
        with suppress(OSError), self.folder.locked():
            self.folder.write_record(old, found)

    def drop(self, part: PartFile, error: OSError | None = None) -> None:
        """Delete the file of a shard, which is damaged, or could not be written because of `error`."""
        part.is_dropped = True
        self._open.pop(part.shard.sha256, None)
        with suppress(OSError), self.folder.locked():
            self.folder.delete(part.shard.sha256, part.descriptor)
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

    def _publish(self, part: PartFile, sha256: str) -> None:
        with suppress(OSError), self.folder.locked() as is_locked:
            os.fsync(part.descriptor)
            if is_locked and self.folder.is_at(part.descriptor, part.shard.sha256, "part"):
                self.folder.publish(part.shard.sha256, sha256)
                part.finish()

    def _give_up(self, error: OSError) -> None:
        """Continue without new shards in the cache."""
        self._is_full = True
        reason = "the disk is full" if error.errno in _FULL else error.strerror
        warn_once(f"{self.folder}: the cache cannot be written ({reason}); its other shards are read without it")

    def _keep(self, part: PartFile) -> None:
        self._open[part.shard.sha256] = part
        while len(self._open) > self._max_open:
            with suppress(KeyError, StopIteration, RuntimeError):  # another thread did it
                del self._open[next(iter(self._open))]

    def _open_existing(self, shard: RemoteShard) -> PartFile | None:
        if (descriptor := self.folder.open(shard.sha256, "tar", shard.num_bytes)) is not None:
            return PartFile(shard, descriptor, None)
        marks = self.folder.open(shard.sha256, "have", shard.num_segments + 1)
        descriptor = self.folder.open(shard.sha256, "part", shard.num_bytes)
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

    def _create(self, shard: RemoteShard, next_use: NextUse) -> PartFile | None:
        if self._is_full or not self._make_room(shard, next_use):
            return None
        marks = self.folder.create(shard.sha256, "have")
        try:
            os.pwrite(marks, bytes(shard.num_segments + 1), 0)
            descriptor = self.folder.create(shard.sha256, "part")
        except OSError:
            os.close(marks)
            raise
        part = PartFile(shard, descriptor, marks)
        os.ftruncate(descriptor, shard.num_bytes)
        flock(descriptor, fcntl.LOCK_SH)
        return part

    def _make_room(self, shard: RemoteShard, next_use: NextUse) -> bool:
        """Delete what is needed last until a shard fits; nothing that is needed sooner than the shard has samples."""
        files = self.folder.files()
        excess = sum(found.st_size for found in files.values()) + shard.num_bytes - self._max_bytes
        if excess <= 0 or shard.num_bytes > self._max_bytes:
            return excess <= 0
        names, victims = _needed_last(files, next_use(), shard.num_segments), dict[str, int]()
        for name in names:
            self._open.pop(name[:64], None)  # also what need not be deleted now: another process may need the room
        for name in names:
            if excess > 0 and (descriptor := self.folder.lock_victim(name)) is not None:
                victims[name], excess = descriptor, excess - files[name].st_size
        for name, descriptor in victims.items():
            if excess <= 0:
                self.folder.evict(name, descriptor)
            os.close(descriptor)
        return excess <= 0


def _needed_last(files: Mapping[str, os.stat_result], next_use: Mapping[str, int], num_samples: int) -> list[str]:
    """Return the files that are not needed for `num_samples`, what is needed last first, then what is oldest."""
    distances = {name: next_use.get(name.partition(".")[0], NEVER) for name in files}
    names = [name for name in files if distances[name] >= num_samples]
    return sorted(names, key=lambda name: (-distances[name], files[name].st_mtime))


def _max_open_shards() -> int:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MAX_OPEN_SHARDS if limit < 0 else max(1, min(MAX_OPEN_SHARDS, limit // FILES_PER_SHARD))


def sha256_of(descriptor: int) -> str:
    """Return the digest of an open file."""
    digest, offset = hashlib.sha256(), 0
    while contents := os.pread(descriptor, _HASHED_BYTES, offset):
        digest.update(contents)
        offset += len(contents)
    return digest.hexdigest()
