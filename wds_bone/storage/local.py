"""Read byte ranges of shards: the one place where bytes come in.

In: shard number, offset, buffers. Out: the buffers filled, or an error. Invariant: `preadv` into private memory, never
`mmap`, so that the page cache stays the kernel's and a vanishing file is an error instead of a signal. Thread-safe.
"""

import errno
import os
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from numpy.typing import NDArray

from wds_bone.errors import ShardError

MAX_OPEN_SHARDS = 64
WritableBuffer = memoryview | NDArray[Any]


class LocalStorage:
    """Shards on a local disk; owns their file descriptors (the first `MAX_OPEN_SHARDS` of them stay open)."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._descriptors: dict[int, int] = {}
        self._lock = threading.Lock()  # never held while the operating system is asked for something that may hang
        self._closed = False
        weakref.finalize(self, _close_all, self._descriptors)  # a stream that is dropped without close() leaks nothing

    def read(self, shard: int, offset: int, *, size: int, into: Sequence[WritableBuffer]) -> None:
        """Fill the buffers `into`, one after another and `size` bytes together, from `offset` of a shard on.

        Raises:
            ShardError: the file is gone, unreadable or ends before.
        """
        try:
            num_bytes = self._preadv(shard, offset, into)
        except OSError as error:
            raise self._error(shard, f"byte {offset:,} cannot be read: {error.strerror}", size, error) from error
        if num_bytes != size:
            raise self._error(shard, f"ends inside a sample at byte {offset:,}", size, f"{num_bytes:,} bytes")

    def announce(self, shard: int, offset: int, size: int) -> None:
        """Tell the kernel that these bytes will be read soon, so that it fetches them meanwhile; never an error."""
        descriptor = self._descriptors.get(shard)
        if descriptor is not None and hasattr(os, "posix_fadvise"):  # macOS has none
            with suppress(OSError):  # the read that follows says what is wrong
                os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_WILLNEED)

    def close(self) -> None:
        """Close the files. A read that is stuck may go on, its bytes go nowhere; one that begins is refused."""
        with self._lock:
            self._closed = True
            _close_all(self._descriptors)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _preadv(self, shard: int, offset: int, into: Sequence[WritableBuffer]) -> int:
        if self._closed:
            raise OSError(errno.EBADF, "the stream is closed")
        descriptor = self._descriptors.get(shard)
        if descriptor is not None or (descriptor := self._open_for_good(shard)) is not None:
            return os.preadv(descriptor, into, offset)  # type: ignore[arg-type]  # arrays are buffers, too
        with self._paths[shard].open("rb", buffering=0) as file:
            return os.preadv(file.fileno(), into, offset)  # type: ignore[arg-type]

    def _open_for_good(self, shard: int) -> int | None:
        if len(self._descriptors) >= MAX_OPEN_SHARDS:
            return None
        descriptor = os.open(self._paths[shard], os.O_RDONLY | os.O_CLOEXEC)
        with self._lock:
            wanted = not self._closed and len(self._descriptors) < MAX_OPEN_SHARDS
            kept = self._descriptors.setdefault(shard, descriptor) if wanted else self._descriptors.get(shard)
        if kept != descriptor:
            os.close(descriptor)
        return kept

    def _error(self, shard: int, what: str, size: int, got: object) -> ShardError:
        do = "fetch the shard again, or rebuild it with `python scripts/make_shards.py`"
        return ShardError(f"{self._paths[shard]}: {what}", expected=f"{size:,} bytes", got=got, do=do)


def _close_all(descriptors: dict[int, int]) -> None:
    while descriptors:
        os.close(descriptors.popitem()[1])
