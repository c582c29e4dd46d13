"""Remember which images are needed, soon or now, and which pieces of shards are being fetched.

In: images that are announced, images that a thread waits for.
Out: the next image to fetch; for a piece that has arrived, the images in it and who waits for them.
Invariant: an image that is being fetched is not fetched again for the next thread that needs it; if pieces overlap, the
first one that arrives answers all who wait. What a thread waits for comes first, then what was announced first. The
memory is bounded: if too much is announced, what was announced first is forgotten. Not thread-safe.
"""

from collections import OrderedDict
from queue import SimpleQueue
from typing import NamedTuple

from wds_bone.remote.part_file import PartFile

MAX_ANNOUNCED = 2**15
"""More images than a loader announces ahead, so that none is forgotten that is needed: 32 MiB of images of 1 KiB."""
Key = tuple[int, int]
Answer = memoryview | Exception | None
"""The bytes of an image, or an error; None if it is in the cache, or another process is about to put it there."""
Waiter = SimpleQueue[Answer]


class Want(NamedTuple):
    """An image that is needed.

    Attributes:
        shard: the number of its shard.
        segment: its segment.
        offset, size: its bytes in the shard.
        part: the file in the cache for it; None if the shard is not in the cache.
        is_repeated: whether its bytes failed their checksum; it is fetched again even if it is being fetched.
    """

    shard: int
    segment: int
    offset: int
    size: int
    part: PartFile | None
    is_repeated: bool = False

    @property
    def key(self) -> Key:
        """The shard and the segment."""
        return self.shard, self.segment


class Piece(NamedTuple):
    """Bytes that are fetched by one request: the segments from `first` to before `stop`, which go to `part`."""

    shard: int
    first: int
    stop: int
    start: int
    end: int
    part: PartFile | None

    @property
    def num_bytes(self) -> int:
        """The number of bytes."""
        return self.end - self.start


class Demand:
    """The images that are needed."""

    def __init__(self) -> None:
        self._soon, self._now = OrderedDict[Key, Want](), OrderedDict[Key, Want]()
        self._in_flight: dict[Key, Want | None] = {}
        self._waiters: dict[Key, list[Waiter]] = {}
        self._repeated: dict[Key, list[tuple[Want, Waiter | None]]] = {}

    def __len__(self) -> int:
        """Return the number of images that are not being fetched yet."""
        return len(self._now) + len(self._soon)

    @property
    def is_urgent(self) -> bool:
        """Whether a thread waits for an image that is not being fetched yet."""
        return bool(self._now)

    def add(self, want: Want, waiter: Waiter | None) -> None:
        """Add an image, and who waits for it; None only announces it."""
        if want.is_repeated and want.key in self._in_flight:
            self._repeated.setdefault(want.key, []).append((want, waiter))
            return
        if waiter is not None:
            self._waiters.setdefault(want.key, []).append(waiter)
        if want.key in self._in_flight:
            self._in_flight[want.key] = want
        elif waiter is not None:
            self._soon.pop(want.key, None)
            self._now[want.key] = want
        elif want.key not in self._now:
            self._soon[want.key] = want
            if len(self._soon) > MAX_ANNOUNCED:
                self._soon.popitem(last=False)

    def pop(self) -> Want | None:
        """Return the image to fetch next, which is then to be started or settled; None if there is none."""
        queue = self._now or self._soon
        return queue.popitem(last=False)[1] if queue else None

    def get(self, shard: int, segment: int) -> Want | None:
        """Return an image that is not being fetched yet."""
        return self._now.get((shard, segment)) or self._soon.get((shard, segment))

    def start(self, want: Want | None, piece: Piece) -> None:
        """Note that a piece is being fetched, because of `want`; another one with some of its images may be, too."""
        for segment in range(piece.first, piece.stop):
            key = piece.shard, segment
            here = self._now.pop(key, None) or self._soon.pop(key, None)
            self._in_flight[key] = here or self._in_flight.get(key)
        if want is not None:
            self._in_flight[want.key] = want

    def finish(self, piece: Piece) -> list[tuple[Want, list[Waiter]]]:
        """Return the images of a piece that are needed, and who waits for each."""
        keys = [(piece.shard, segment) for segment in range(piece.first, piece.stop)]
        wants = [want for key in keys if (want := self._in_flight.pop(key, None))]
        return [(want, self.settle(want)) for want in wants]

    def repeat(self, piece: Piece) -> None:
        """Add the images of a piece that has been finished that must be fetched again."""
        keys = [(piece.shard, segment) for segment in range(piece.first, piece.stop)]
        for want, waiter in [each for key in keys for each in self._repeated.pop(key, ())]:
            self.add(want, waiter)

    def settle(self, want: Want) -> list[Waiter]:
        """Return who waits for an image that need not be fetched any more."""
        return self._waiters.pop(want.key, [])
