"""Read and write a shard in the cache folder that is complete, or of which some segments are still missing.

In: bytes of segments, in any order, from all processes of this host.
Out: bytes of segments that are there.
Invariant: a segment is marked only after its bytes have been written, so a process may be killed at any time. What is
marked after a power failure may still be wrong; the checksums of the samples and of the shard detect it.

The bytes are in a sparse file. One byte per segment in a second file says whether it is missing, there, or claimed by a
thread that is fetching it. It is read and written by system calls and never mapped, because a disk that fails would
then send a signal. A claim is a time stamp and expires, so one of a killed process delays the others only briefly. Two
claims of a segment would do no harm: both threads write the same bytes.
"""

import fcntl
import itertools
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from wds_bone.remote.shard import RemoteShard
from wds_bone.storage.finalizer import call_when_gone
from wds_bone.storage.local import WritableBuffer, fill
from wds_bone.storage.lock import NO_LOCKS

CLAIM_SECONDS = 20
TOUCH_SECONDS = 60.0
"""How often a process that reads a file updates its time, which tells other processes that it is in use."""
MISSING, PRESENT = 0, 1
_LOCK_ATTEMPTS, _RETRY_SECONDS = 1000, 0.0005
_FIRST_CLAIM, _NUM_CLAIMS = 2, 254


class PartFile:
    """An open shard of the cache; closed when the last reference is gone. Thread-safe.

    Args:
        shard: what the file contains.
        descriptor: its open file, which this object will close.
        marks: the open file with a byte for each segment, and one more that is claimed to publish the shard, which this
            object will close; None if the shard is complete.

    Attributes:
        shard: what the file contains.
        descriptor: its open file.
        is_complete: whether it is known that the shard has been published.
        is_dropped: whether the cache has given the file up; nothing more is written to it.
    """

    def __init__(self, shard: RemoteShard, descriptor: int, marks: int | None) -> None:
        self.shard, self.descriptor, self.is_dropped = shard, descriptor, False
        self._marks, self._seen = marks, [-1] * (0 if marks is None else shard.num_segments)
        self._releases, self._last_release = itertools.count(1), 0
        self.is_complete, self._next_touch = marks is None, 0.0
        call_when_gone(self, os.close, descriptor)
        if marks is not None:
            call_when_gone(self, os.close, marks)

    def has(self, segment: int) -> bool:
        """Return whether a segment is there."""
        last_release = self._last_release  # read before the mark, so that a release in between is noticed
        if self._marks is None or self.is_complete or self._seen[segment] == last_release:
            return True
        if os.pread(self._marks, 1, segment) != bytes([PRESENT]):
            return False
        self._seen[segment] = last_release  # spares the next call to the system, until a segment is released
        return True

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Let no other process claim segments in the block; gives up soon if one that does has been stopped."""
        is_locked = self._marks is None or any(map(_lock, [self._marks] * _LOCK_ATTEMPTS))
        try:
            yield
        finally:
            if self._marks is not None and is_locked:
                flock(self._marks, fcntl.LOCK_UN)

    def has_image(self, offset: int) -> bool:
        """Return whether the image that begins at `offset` is there."""
        return self.is_complete or self.has(self.shard.segment_at(offset))

    def marks(self) -> bytes:
        """Return a byte for each segment, to be given to `is_free`."""
        size = self.shard.num_segments
        if self._marks is None:
            return bytes([PRESENT]) * size
        marks = os.pread(self._marks, size + 1, 0)
        self.is_complete = marks[size] == PRESENT
        return marks[:size]

    def read(self, offset: int, *, size: int, into: Sequence[WritableBuffer]) -> bool:
        """Fill the buffers `into` with `size` bytes; return False if the file is too short.

        Raises:
            OSError: if it cannot be read.
        """
        if (now := time.monotonic()) >= self._next_touch:
            self._next_touch = now + TOUCH_SECONDS
            os.utime(self.descriptor)
        return fill(self.descriptor, offset, size=size, into=into) == size

    def claim(self, first: int, stop: int) -> None:
        """Tell all processes that the segments from `first` to before `stop` are being fetched.

        Raises:
            OSError: if the disk fails, as of all methods that write.
        """
        self._mark(first, stop, _claim_now())

    def release(self, first: int, stop: int) -> None:
        """Mark segments as missing."""
        self._mark(first, stop, MISSING)
        self._last_release = next(self._releases)

    def write(self, first: int, stop: int, contents: memoryview) -> None:
        """Write the bytes of segments and mark them as there."""
        self.write_at(self.shard.start_of(first), contents)
        self._mark(first, stop, PRESENT)

    def write_at(self, offset: int, contents: memoryview) -> None:
        """Write bytes without marking anything."""
        while contents:
            num_bytes = os.pwrite(self.descriptor, contents, offset)
            contents, offset = contents[num_bytes:], offset + num_bytes

    def is_unpublished(self) -> bool:
        """Return whether the shard is complete, and no thread has published it or is about to."""
        size = self.shard.num_segments
        if self._marks is None or self.is_complete or self.marks().count(PRESENT) < size:
            return False
        return is_free(os.pread(self._marks, 1, size)[0])

    def claim_publication(self) -> bool:
        """Return whether the calling thread must publish the shard, and tell all processes that it does so."""
        if is_unpublished := self.is_unpublished():
            self.claim(self.shard.num_segments, self.shard.num_segments + 1)
        return is_unpublished

    def finish(self) -> None:
        """Tell all processes that the shard has been published."""
        self.is_complete = True
        self._mark(self.shard.num_segments, self.shard.num_segments + 1, PRESENT)

    def clear(self) -> None:
        """Mark all segments as missing, and the shard as unpublished."""
        self._mark(0, self.shard.num_segments + 1, MISSING)
        self._last_release = next(self._releases)

    def clear_claims(self) -> None:
        """Release what killed processes have claimed; only for a file that nobody else has open."""
        if self._marks is not None:
            marks = os.pread(self._marks, self.shard.num_segments + 1, 0)
            os.pwrite(self._marks, bytes(mark if mark == PRESENT else MISSING for mark in marks), 0)

    def _mark(self, first: int, stop: int, value: int) -> None:
        if self._marks is not None:
            os.pwrite(self._marks, bytes([value]) * (stop - first), first)


def flock(descriptor: int, kind: int) -> bool:
    """Lock a file, or change its lock; return False if another holder prevents it. Some file systems have no locks."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    return True


def _lock(descriptor: int) -> bool:
    """Lock a file; if that fails, wait for a moment and return False."""
    is_locked = flock(descriptor, fcntl.LOCK_EX)
    if not is_locked:
        time.sleep(_RETRY_SECONDS)
    return is_locked


def is_free(mark: int) -> bool:
    """Return whether a segment with this mark is missing, and no thread is fetching it or its claim has expired."""
    return mark == MISSING or (mark >= _FIRST_CLAIM and (_claim_now() - mark) % _NUM_CLAIMS > CLAIM_SECONDS)


def _claim_now() -> int:
    return _FIRST_CLAIM + int(time.monotonic()) % _NUM_CLAIMS  # the clock is the same for all processes of a host
