"""Read byte ranges of shards on a local disk.

In: a shard number, an offset and buffers.
Out: the filled buffers, or an error.
Invariant: all reads use `preadv` into private memory, never `mmap`, so that the kernel manages the page cache and a
file that disappears causes an error instead of a signal. Only regular files are opened: a named pipe or a device would
block. Thread-safe.
"""

import errno
import os
import stat
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from wds_bone.errors import ShardError
from wds_bone.objects.protocol import Transfer
from wds_bone.storage.finalizer import call_when_gone
from wds_bone.storage.limits import limit_of

MAX_OPEN_SHARDS = 64
STALL_SECONDS = 120.0
WritableBuffer = memoryview | NDArray[Any]
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_regular(path: Path) -> int:
    """Return a descriptor for reading a regular file.

    Raises:
        OSError: if it is missing, unreadable, or anything but a regular file.
    """
    _refuse_other_kinds(path.stat().st_mode)  # before opening, because opening a device may have an effect
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        _refuse_other_kinds(os.fstat(descriptor).st_mode)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _refuse_other_kinds(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"it is {_KINDS.get(stat.S_IFMT(mode), 'no file')}, not a regular file")


class _OpenShard:
    """An open shard, closed as soon as nobody holds this object any more.

    Whoever reads holds it: if another thread closed the descriptor during a read, its number could already mean another
    file when the read begins.
    """

    __slots__ = ("__weakref__", "descriptor")

    def __init__(self, path: Path) -> None:
        self.descriptor = open_regular(path)
        call_when_gone(self, os.close, self.descriptor)


class LocalStorage:
    """Shards on a local disk; up to `MAX_OPEN_SHARDS` of them are kept open once read.

    Attributes:
        batches_ahead: 1; the kernel needs no more to read ahead.
        stall_seconds: how long a read may take.
        stall_remedy: what to check if one takes longer.
    """

    batches_ahead, stall_seconds, stall_remedy = 1, STALL_SECONDS, "check the disk or its mount"

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._open: dict[int, _OpenShard] = {}
        self._lock = threading.Lock()  # never held during a system call that may hang
        self._closed = False

    def read(self, shard: int, offset: int, *, size: int, into: Sequence[WritableBuffer]) -> None:
        """Fill the buffers `into` in order, `size` bytes in total, starting at byte `offset` of the shard.

        Raises:
            ShardError: if the file is missing, unreadable or too short.
        """
        try:
            opened = self._opened(shard)  # held until the end, so that nobody closes the descriptor
            num_bytes = fill(opened.descriptor, offset, size=size, into=into)
        except OSError as error:
            raise self._error(shard, f"byte {offset:,} cannot be read: {error.strerror}", size, error) from error
        if num_bytes != size:
            raise self._error(shard, f"ends inside a sample at byte {offset:,}", size, f"{num_bytes:,} bytes")

    def prefetch(self, shard: int, offset: int, size: int) -> None:
        """Advise the kernel to prefetch bytes that will be read soon; never raises an error."""
        opened = self._open.get(shard)
        if opened is not None:
            advise(opened.descriptor, offset, size)

    def forget(self, shard: int, offset: int, size: int) -> bool:  # noqa: ARG002
        """Return False: a second read of bytes that failed their checksum would return the same bytes."""
        return False

    def counters(self) -> Transfer:
        """Return zeros: nothing is moved over a network."""
        return Transfer()

    def close(self) -> None:
        """Close the files; a read in progress keeps its file open until it is done, and a new one raises an error."""
        with self._lock:
            self._closed = True
            self._open.clear()

    def _opened(self, shard: int) -> _OpenShard:
        if self._closed:
            raise OSError(errno.EBADF, "the stream is closed")
        return self._open.get(shard) or self._open_and_keep(shard)

    def _open_and_keep(self, shard: int) -> _OpenShard:
        opened = _OpenShard(self._paths[shard])
        with self._lock:
            if not self._closed and len(self._open) < MAX_OPEN_SHARDS:
                self._open[shard] = opened
        return opened

    def _error(self, shard: int, problem: str, size: int, got: object) -> ShardError:
        path, expected = self._paths[shard], f"{size:,} bytes"
        do = "fetch the shard again, or rebuild it with `wds-bone make-shards`"
        if isinstance(got, OSError) and (limit := limit_of(got, path)):
            expected, got, do = limit
        return ShardError(f"{path}: {problem}", expected=expected, got=got, do=do)


def advise(descriptor: int, offset: int, size: int) -> None:
    """Advise the kernel to prefetch bytes that will be read soon; never raises an error."""
    if hasattr(os, "posix_fadvise"):  # not available on macOS
        with suppress(OSError):  # the read that follows reports the error
            os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_WILLNEED)


def fill(descriptor: int, offset: int, *, size: int, into: Sequence[WritableBuffer]) -> int:
    """Fill the buffers, `size` bytes in total, up to the end of the file, and return the number of bytes.

    Raises:
        OSError: if the file cannot be read.
    """
    total = num_bytes = os.preadv(descriptor, into, offset)  # type: ignore[arg-type]  # arrays are buffers too
    while num_bytes and total < size:  # network file systems may return fewer bytes than there are
        num_bytes = os.preadv(descriptor, _skip(into, total), offset + total)
        total += num_bytes
    return total


def _skip(buffers: Sequence[WritableBuffer], num_bytes: int) -> list[memoryview]:
    """Return what is left of the buffers after their first `num_bytes`."""
    rest = []
    for buffer in buffers:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]  # arrays are buffers too
        rest.append(view[num_bytes:])
        num_bytes = max(0, num_bytes - len(view))
    return rest
