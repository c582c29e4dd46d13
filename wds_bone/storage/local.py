"""Read byte ranges of shards on a local disk.

In: a shard number, an offset and buffers.
Out: the filled buffers, or an error.
Invariant: all reads use `preadv` into private memory, never `mmap`, so that the kernel manages the page cache and a
file that disappears causes an error instead of a signal. Thread-safe.
"""

import errno
import os
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from wds_bone.errors import ShardError
from wds_bone.storage.limits import limit_of

MAX_OPEN_SHARDS = 64
WritableBuffer = memoryview | NDArray[Any]


class LocalStorage:
    """Shards on a local disk; up to `MAX_OPEN_SHARDS` of them are kept open once read."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._descriptors: dict[int, int] = {}
        self._lock = threading.Lock()  # never held during a system call that may hang
        self._closed = False
        weakref.finalize(self, _close_all, self._descriptors)  # no leak if close() is never called

    def read(self, shard: int, offset: int, *, size: int, into: Sequence[WritableBuffer]) -> None:
        """Fill the buffers `into` in order, `size` bytes in total, starting at byte `offset` of the shard.

        Raises:
            ShardError: if the file is missing, unreadable or too short.
        """
        try:
            num_bytes = self._preadv(shard, offset, into)
        except OSError as error:
            raise self._error(shard, f"byte {offset:,} cannot be read: {error.strerror}", size, error) from error
        if num_bytes != size:
            raise self._error(shard, f"ends inside a sample at byte {offset:,}", size, f"{num_bytes:,} bytes")

    def prefetch(self, shard: int, offset: int, size: int) -> None:
        """Advise the kernel to prefetch bytes that will be read soon; never raises an error."""
        descriptor = self._descriptors.get(shard)
        if descriptor is not None and hasattr(os, "posix_fadvise"):  # not available on macOS
            with suppress(OSError):  # the read that follows reports the error
                os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_WILLNEED)

    def close(self) -> None:
        """Close the files; a read in progress may still finish, and a new one raises an error."""
        with self._lock:
            self._closed = True
            _close_all(self._descriptors)

    def _preadv(self, shard: int, offset: int, into: Sequence[WritableBuffer]) -> int:
        if self._closed:
            raise OSError(errno.EBADF, "the stream is closed")
        descriptor = self._descriptors.get(shard)
        if descriptor is not None or (descriptor := self._open_and_keep(shard)) is not None:
            return os.preadv(descriptor, into, offset)  # type: ignore[arg-type]  # arrays are buffers too
        with self._paths[shard].open("rb", buffering=0) as file:
            return os.preadv(file.fileno(), into, offset)  # type: ignore[arg-type]

    def _open_and_keep(self, shard: int) -> int | None:
        if len(self._descriptors) >= MAX_OPEN_SHARDS:
            return None
        descriptor = os.open(self._paths[shard], os.O_RDONLY | os.O_CLOEXEC)
        with self._lock:
            wanted = not self._closed and len(self._descriptors) < MAX_OPEN_SHARDS
            kept = self._descriptors.setdefault(shard, descriptor) if wanted else self._descriptors.get(shard)
        if kept != descriptor:
            os.close(descriptor)
        return kept

    def _error(self, shard: int, problem: str, size: int, got: object) -> ShardError:
        path, expected = self._paths[shard], f"{size:,} bytes"
        do = "fetch the shard again, or rebuild it with `wds-bone make-shards`"
        if isinstance(got, OSError) and (limit := limit_of(got, path)):
            expected, got, do = limit
        return ShardError(f"{path}: {problem}", expected=expected, got=got, do=do)


def _close_all(descriptors: dict[int, int]) -> None:
    while descriptors:
        os.close(descriptors.popitem()[1])
