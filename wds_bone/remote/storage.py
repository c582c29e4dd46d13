"""Read byte ranges of shards in object storage, through a cache in a local folder or without one.

In: a shard number, an offset and buffers; announcements of what will be read.
Out: the filled buffers, or an error.
Invariant: `read` returns the bytes of the shard, from wherever they are at hand, and never waits without an end. No
request is made for what is in the cache. Thread-safe.
"""

import errno
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from queue import Empty
from threading import get_ident
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from wds_bone.errors import ShardError
from wds_bone.objects.protocol import ChangedError, Objects, Transfer
from wds_bone.remote.cache import Cache
from wds_bone.remote.demand import Answer, Waiter, Want
from wds_bone.remote.fetch import Fetcher
from wds_bone.remote.part_file import CLAIM_SECONDS, PartFile
from wds_bone.remote.shard import RemoteShard, WrongContentsError
from wds_bone.storage.local import WritableBuffer, advise

READ_SECONDS = 600.0
"""How long a read waits; the client gives a request without progress up much sooner."""
AHEAD_BYTES = 32 * 2**20
MAX_BATCHES_AHEAD = 64
WAIT_SECONDS, POLL_SECONDS = 1.0, 0.005

_REPLACE = (
    "run the same command again if the shard has just been replaced; otherwise upload it again, or write its index "
    "again with `wds-bone index`"
)
NumberT = TypeVar("NumberT", int, float)
NextUse = Callable[[], NDArray[np.int64]]
"""Returns int64 (shards,), in how many samples each shard is needed next."""


class RemoteStorage:
    """Shards in object storage.

    Args:
        shards: the shards.
        clients: reads bytes of them, by scheme; this object will close the clients.
        cache: where whole shards are kept; None fetches images only, each time that they are read.
        next_use: what the cache keeps depends on it; None needs all shards, always.
        batch_bytes: bytes of the images that are read at a time.

    Attributes:
        batches_ahead: how many batches should be announced ahead, which keeps the link busy in bounded memory.
        stall_seconds: how long a read may take.
        stall_remedy: what to check if one takes longer.
    """

    def __init__(
        self,
        shards: Sequence[RemoteShard],
        clients: Mapping[str, Objects],
        *,
        cache: Cache | None = None,
        next_use: NextUse | None = None,
        batch_bytes: int = 2**20,
    ) -> None:
        self._shards, self._cache, self._next_use = shards, cache, next_use
        self._clients, self._fetcher = clients, Fetcher(shards, clients, cache)
        self._num_hits, self._waited_seconds = dict[int, int](), dict[int, float]()  # by thread: a lock could hang
        self._forgotten = set[tuple[int, int]]()  # what failed its checksum and is about to be read again
        self._num_refused = dict[int, int]()  # reads of a shard until the cache is asked again whether it has room
        self._closed = False
        self.batches_ahead = max(2, min(MAX_BATCHES_AHEAD, AHEAD_BYTES // max(1, batch_bytes)))
        self._next_wake = 0.0
        self.stall_seconds = READ_SECONDS
        servers = sorted({f"{shard.url.scheme}://{shard.url.host}" for shard in shards})
        self.stall_remedy = f"check the network and {', '.join(servers)}, then run the same command again"

    def read(self, shard: int, offset: int, *, size: int, into: Sequence[WritableBuffer]) -> None:
        """Fill the buffers `into` in order, `size` bytes in total, starting at byte `offset` of the shard.

        Raises:
            ShardError: if they cannot be fetched, or the shard has changed.
        """
        try:
            part = self._part(shard)
            if part is not None and self._read_cached(part, offset, size=size, into=into):
                _add(self._num_hits, 1)
                return
            want = self._want(shard, offset, size, part, is_repeated=self._was_forgotten(shard, offset))
            contents = self._fetcher.take(want.key)
            if contents is None or want.is_repeated:
                contents = self._wait(want, into)
            if contents is not None:
                _copy(contents, into)
        except OSError as error:
            raise self._error(shard, offset, size, error) from error

    def prefetch(self, shard: int, offset: int, size: int) -> None:
        """Begin to fetch bytes that will be read soon; never raises an error."""
        with suppress(OSError):  # the read that follows reports the error
            part = self._part(shard)
            if part is not None and part.has_image(offset):
                advise(part.descriptor, offset, size)
            else:
                self._fetcher.announce(self._want(shard, offset, size, part))

    def forget(self, shard: int, offset: int, size: int) -> bool:  # noqa: ARG002
        """Drop bytes that failed their checksum, and return True: a second read fetches them again."""
        self._forgotten.add((shard, offset))
        with suppress(OSError):  # the read that follows reports the error
            part = self._part(shard)
            if part is not None and self._cache is not None:
                self._cache.forget(part, self._shards[shard].segment_at(offset))
        return True

    def counters(self) -> Transfer:
        """Return what has been moved so far."""
        traffic = [client.traffic for client in self._clients.values()]
        return Transfer(
            bytes_fetched=sum(each.bytes_fetched for each in traffic),
            cache_hits=sum(list(self._num_hits.values())),
            retries=sum(each.retries for each in traffic),
            waited_seconds=sum(list(self._waited_seconds.values()), 0.0),
        )

    def close(self) -> None:
        """End the requests and threads, and close the files; reads that wait or begin later raise an error."""
        self._closed = True
        self._fetcher.close()
        if self._cache is not None:
            self._cache.close()

    def _want(self, shard: int, offset: int, size: int, part: PartFile | None, *, is_repeated: bool = False) -> Want:
        return Want(shard, self._shards[shard].segment_at(offset), offset, size, part, is_repeated)

    def _was_forgotten(self, shard: int, offset: int) -> bool:
        """Return whether an image failed its checksum the last time that it was read."""
        was_forgotten = (shard, offset) in self._forgotten
        self._forgotten.discard((shard, offset))
        return was_forgotten

    def _part(self, shard: int) -> PartFile | None:
        """Return the file of a shard in the cache, or None.

        Raises:
            OSError: if the storage is closed, or the shard has changed.
        """
        if self._closed:
            raise OSError(errno.EBADF, "the stream is closed")
        if (error := self._fetcher.changed.get(shard)) is not None:
            raise error
        if self._cache is None:
            return None
        if (num_refused := self._num_refused.get(shard, 0)) > 0:
            self._num_refused[shard] = num_refused - 1
            return None
        part = self._cache.open(self._shards[shard], self._distances)
        if part is None:
            self._num_refused[shard] = self._shards[shard].num_segments // 4 + 1
        return part

    def _distances(self) -> dict[str, int]:
        distances = [0] * len(self._shards) if self._next_use is None else self._next_use().tolist()
        return {shard.sha256: distance for shard, distance in zip(self._shards, distances, strict=True)}

    def _read_cached(self, part: PartFile, offset: int, *, size: int, into: Sequence[WritableBuffer]) -> bool:
        """Fill the buffers from the cache, if the image is there; a file that fails is dropped."""
        error = None
        try:
            if part.is_dropped or not part.has_image(offset):
                return False
            if part.read(offset, size=size, into=into):
                self._fill_gaps(part)
                return True
        except OSError as caught:
            error = caught
        assert self._cache is not None
        self._cache.drop(part, error)  # without an error, somebody has made it shorter
        return False

    def _fill_gaps(self, part: PartFile) -> None:
        """Have the rest of a shard fetched, now and then: a process that was killed may have claimed it."""
        if not part.is_complete and time.monotonic() >= self._next_wake:
            self._next_wake = time.monotonic() + CLAIM_SECONDS
            self._fetcher.wake()

    def _wait(self, want: Want, into: Sequence[WritableBuffer]) -> memoryview | None:
        """Return the bytes of an image once they have been fetched; None if they were in the cache after all."""
        began = time.monotonic()
        try:
            while time.monotonic() < began + READ_SECONDS:
                answer = self._answer(self._fetcher.need(want))
                if isinstance(answer, Exception):
                    raise answer
                if answer is not None:
                    return answer
                if want.part is not None and self._read_cached(want.part, want.offset, size=want.size, into=into):
                    return None
                time.sleep(POLL_SECONDS)  # another process is fetching it
            raise TimeoutError(errno.ETIMEDOUT, f"nothing has arrived for {READ_SECONDS:g} seconds")
        finally:
            _add(self._waited_seconds, time.monotonic() - began)

    def _answer(self, waiter: Waiter) -> Answer:
        """Wait for an answer, unless the stream is closed or the time is over."""
        for _ in range(int(READ_SECONDS / WAIT_SECONDS)):
            if self._closed:
                return OSError(errno.EBADF, "the stream is closed")
            with suppress(Empty):
                return waiter.get(timeout=WAIT_SECONDS)
        return None

    def _error(self, shard: int, offset: int, size: int, error: OSError) -> ShardError:
        found = self._shards[shard]
        if isinstance(error, WrongContentsError):
            expected, got = f"sha256 {found.sha256}", f"sha256 {error.sha256}"
            return ShardError(f"{found.url}: {error.strerror}", expected=expected, got=got, do=_REPLACE)
        problem = f"{found.url}: byte {offset:,} cannot be read: {error.strerror}"
        return ShardError(problem, expected=f"{size:,} bytes", do=_remedy(error))


def _remedy(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "upload the shard again, or name the shards that there are"
    if isinstance(error, PermissionError):
        return "check the credentials, and that they allow reading this object"
    if isinstance(error, ChangedError):
        return "start again with the shards as they are now, or restore those of the manifest"
    return "check the network and the server, then run the same command again"


def _add(counts: dict[int, NumberT], number: NumberT) -> None:
    """Add to the count of this thread. Ctrl-C in a thread that holds a lock would leave the others waiting for it."""
    thread = get_ident()
    counts[thread] = counts.get(thread, 0) + number


def _copy(contents: memoryview, into: Sequence[WritableBuffer]) -> None:
    for buffer in into:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]  # arrays are buffers too
        view[:], contents = contents[: len(view)], contents[len(view) :]
