"""Keep images in memory that were announced and have arrived, until they are taken.

In: bytes of images.
Out: the same bytes, once.
Invariant: the memory is bounded; the oldest images are forgotten if nobody takes them. Any thread may take an image
while one thread at a time keeps others.
"""

from contextlib import suppress

from wds_bone.remote.demand import Key

MAX_BYTES_READY = 64 * 2**20


class ReadyImages:
    """Images that have arrived, by their keys."""

    def __init__(self) -> None:
        self._images, self._num_bytes = dict[Key, memoryview](), 0

    def __len__(self) -> int:
        """Return how many images there are."""
        return len(self._images)

    def take(self, key: Key) -> memoryview | None:
        """Return the bytes of an image and forget them; None if they are not there."""
        return self._images.pop(key, None)

    def keep(self, key: Key, contents: memoryview) -> None:
        """Keep a copy of the bytes of an image, and forget the oldest ones if nobody takes them."""
        self._images[key] = memoryview(bytes(contents))  # the original belongs to a larger piece
        self._num_bytes += len(contents)
        if self._num_bytes > MAX_BYTES_READY:
            self._num_bytes = sum(map(len, list(self._images.values())))  # without those that were taken
        while self._images and self._num_bytes > MAX_BYTES_READY:
            with suppress(KeyError, RuntimeError, StopIteration):  # it has just been taken
                self._num_bytes -= len(self._images.pop(next(iter(self._images))))
