"""Fetch images from object storage in threads: what is waited for first, then what is announced, then what is missing.

In: images that are needed.
Out: answers to those who wait; segments in the files of the cache.
Invariant: a bounded number of threads and bytes is in flight, and no thread is left after `close` except one that is
stuck in the operating system. All state belongs to the threads of the pool: whoever asks only puts a message into a
queue, so that Ctrl-C can arrive at any time.

Requests for more threads are made while many images wait and the threads that there are wait for the network: their
processor time decides, because threads that share one interpreter gain nothing if they are busy.
"""

import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from queue import SimpleQueue
from threading import Lock

from wds_bone.errors import ConfigError
from wds_bone.objects.protocol import ChangedError, Objects
from wds_bone.remote.cache import Cache
from wds_bone.remote.demand import Answer, Demand, Key, Piece, Waiter, Want
from wds_bone.remote.part_file import PartFile
from wds_bone.remote.piece_size import PieceSize
from wds_bone.remote.pieces import gap_in, images_around, segments_around
from wds_bone.remote.ready import ReadyImages
from wds_bone.remote.requests import Requests
from wds_bone.remote.shard import RemoteShard, WrongContentsError
from wds_bone.storage.pool import DaemonPool

MAX_THREADS = 64
MAX_BUSY = 0.5
"""The processor time of all threads that fetch, relative to the time that passes, above which no thread is added."""
MAX_BYTES_IN_FLIGHT = 32 * 2**20
FILLED_BYTES = 2**20
_WEIGHT = 0.1


class Fetcher:
    """Fetches images of shards, with a pool of threads of its own.

    Args:
        shards: the shards.
        clients: reads bytes of them, by scheme; this object will close the clients.
        cache: what verifies shards that are complete; None if there is no cache.

    Attributes:
        changed: by their numbers, shards whose contents were fetched twice and are not those of their index.
    """

    def __init__(self, shards: Sequence[RemoteShard], clients: Mapping[str, Objects], cache: Cache | None) -> None:
        self._requests, self._cache = Requests(shards, clients), cache
        self._inbox: SimpleQueue[tuple[Want, Waiter | None]] = SimpleQueue()
        self._lock = Lock()  # taken by the threads of the pool only; protects everything below
        self._demand = Demand()
        num_bytes, num_segments = sum(each.num_bytes for each in shards), sum(each.num_segments for each in shards)
        self._piece_size = PieceSize(num_bytes // max(1, num_segments))
        self._num_busy, self._bytes_in_flight, self._busy_share = 0, 0, 0.0
        self._ready = ReadyImages()
        self._gap: Piece | None = None
        self._numbers = {shard.sha256: number for number, shard in enumerate(shards)}
        self._damaged = set[int]()
        self.changed: dict[int, ChangedError] = {}
        self._pool = DaemonPool(1, name="wds_bone-fetch")

    def announce(self, want: Want) -> None:
        """Fetch an image as soon as nobody waits for another one."""
        self._send(want, None)

    def need(self, want: Want) -> Waiter:
        """Fetch an image at once, and return the queue that will receive the answer."""
        waiter: Waiter = SimpleQueue()
        self._send(want, waiter)
        return waiter

    def take(self, key: Key) -> memoryview | None:
        """Return the bytes of an image that was announced and has been fetched into memory, and forget them."""
        return self._ready.take(key)

    def wake(self) -> None:
        """Have a thread look for something to do."""
        self._pool.submit(_work, weakref.ref(self), report=_ignore)

    def close(self) -> None:
        """End the requests and the threads."""
        self._requests.close()
        self._pool.close()

    def _send(self, want: Want, waiter: Waiter | None) -> None:
        self._inbox.put((want, waiter))
        self.wake()

    def work(self) -> None:
        """Fetch one piece, if there is any to fetch."""
        with self._lock:
            piece = self._start_piece()
        if piece is None:
            return
        began, cpu_began = time.monotonic(), time.thread_time()
        answer = self._requests.fetch(piece)
        seconds, cpu_seconds = time.monotonic() - began, time.thread_time() - cpu_began
        self._store(piece, answer)
        with self._lock:
            self._finish_piece(piece, answer)
            if isinstance(answer, memoryview) and answer:
                self._piece_size.report(piece.num_bytes, seconds)
                self._busy_share += _WEIGHT * (cpu_seconds / max(seconds, 1e-6) - self._busy_share)
        if piece.part is not None and self._cache is not None:
            self._publish(piece.shard, piece.part, self._cache)

    def _start_piece(self) -> Piece | None:
        self._receive()
        piece = self._next_piece() or self._next_gap()
        if piece is not None:
            self._num_busy += 1
            self._bytes_in_flight += piece.num_bytes
            self._grow_pool()
        return piece

    def _finish_piece(self, piece: Piece, answer: Answer) -> None:
        self._receive()
        self._num_busy -= 1
        self._bytes_in_flight -= piece.num_bytes
        for want, waiters in self._demand.finish(piece):
            found: Answer = answer
            if isinstance(answer, memoryview):
                found = answer[want.offset - piece.start :][: want.size]
                if not waiters and (piece.part is None or piece.part.is_dropped):
                    self._ready.keep(want.key, found)
            for waiter in waiters:
                waiter.put(found)
        if piece is self._gap:
            self._gap = None
        if self._demand.repeat(piece):
            self.wake()
        if isinstance(answer, memoryview) and not self._demand:
            self.wake()  # fills the next gap

    def _store(self, piece: Piece, answer: Answer) -> None:
        """Write a piece into the cache; if that fails, continue without the cache."""
        part = piece.part
        if part is None or part.is_dropped or self._cache is None:
            return
        try:
            if isinstance(answer, memoryview):
                part.write(piece.first, piece.stop, answer)
            else:
                part.release(piece.first, piece.stop)
        except OSError as error:
            self._cache.drop(part, error)

    def _publish(self, number: int, part: PartFile, cache: Cache) -> None:
        """Verify a shard that is complete; one that is wrong is fetched once more."""
        try:
            if part.is_dropped or not self._claims_publication(part) or (found := cache.publish(part)) is None:
                return
        except OSError as error:
            cache.drop(part, error)
            return
        if number in self._damaged:
            self.changed[number] = WrongContentsError(found)
            cache.drop(part)
        self._damaged.add(number)
        self.wake()

    def _claims_publication(self, part: PartFile) -> bool:
        """Return whether the calling thread must publish a part: only one thread of all processes must."""
        with self._lock, part.exclusive():
            return part.claim_publication()

    def _receive(self) -> None:
        """Take the messages that have arrived; other threads may take some of them, too."""
        for _ in range(self._inbox.qsize()):
            want, waiter = self._inbox.get()
            self._demand.add(want, waiter)

    def _next_piece(self) -> Piece | None:
        """Return the next piece that is needed; answer who waits for what is, or will be, there without us."""
        while (want := self._demand.pop()) is not None:
            contents = self._ready.take(want.key)  # it may have arrived after it was announced
            contents = None if want.is_repeated else contents
            piece = None if contents is not None else self._around(want)
            if piece is not None:
                self._demand.start(want, piece)
                return piece
            for waiter in self._demand.settle(want):
                waiter.put(contents)
        return None

    def _around(self, want: Want) -> Piece | None:
        """Return the piece to fetch for an image; None if it is in the cache, or another process is fetching it."""
        part = want.part
        if part is not None and self._cache is not None and not part.is_dropped:
            sizes = {
                "num_bytes": self._piece_size.next_bytes(),
                "most_bytes": MAX_BYTES_IN_FLIGHT // self._pool.num_threads,
            }
            try:
                return segments_around(want.segment, part, self._demand, number=want.shard, **sizes)
            except OSError as error:
                self._cache.drop(part, error)
        return images_around(want, self._demand)

    def _next_gap(self) -> Piece | None:
        """Return a piece that nobody has asked for; one at a time is fetched."""
        parts = self._cache.parts() if self._cache is not None and self._gap is None else []
        for part in parts:
            number = self._numbers.get(part.shard.sha256)
            if number is None or part.is_complete or number in self.changed:
                continue
            with suppress(OSError):  # the next read of this shard drops it
                num_bytes = max(FILLED_BYTES, self._piece_size.next_bytes())
                self._gap = gap_in(part, self._demand, number=number, num_bytes=num_bytes)
            if self._gap is not None:
                self._demand.start(None, self._gap)
                return self._gap
        return None

    def _grow_pool(self) -> None:
        """Start a thread if there is more to do, and the threads that there are wait for the network."""
        num_threads = self._pool.num_threads
        is_waiting = num_threads * self._busy_share < MAX_BUSY and self._bytes_in_flight < MAX_BYTES_IN_FLIGHT
        if self._demand and self._num_busy == num_threads < MAX_THREADS and is_waiting:
            with suppress(ConfigError):  # the system allows no more; those that there are suffice
                self._pool.add_thread()


def _work(fetcher: "weakref.ref[Fetcher]") -> None:
    """Work for a fetcher, unless it is gone: tasks that wait must not keep it alive."""
    if (found := fetcher()) is not None:
        found.work()


def _ignore(_error: BaseException | None) -> None:
    """Ignore the error of a task: whoever waits for the bytes has received it."""
