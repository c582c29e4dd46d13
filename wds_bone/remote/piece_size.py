"""Find out how many bytes to fetch by one request.

In: what arrived.
Out: a number of bytes.
Invariant: a piece is little more than what was asked for, so that what is needed first arrives first, unless larger
pieces bring more bytes per second: where requests are the limit, because of their processor time here or at the server.

After a first batch of small pieces, two sizes are used in turn, one twice the other, each for some pieces. If the
larger one brings clearly more bytes per second than the smaller one did before and after it, both are doubled; if it
hardly does, they are halved.
"""

import time

SMALLEST_BYTES, LARGEST_BYTES = 64 * 2**10, 2 * 2**20
SEGMENTS_PER_PIECE = 2
NUM_FIRST, NUM_SKIPPED, NUM_COUNTED = 64, 8, 12
GROW_ABOVE, SHRINK_BELOW = 1.3, 1.15


class PieceSize:
    """The number of bytes of the next pieces. Not thread-safe.

    Args:
        segment_bytes: the usual size of a segment.
    """

    def __init__(self, segment_bytes: int) -> None:
        self._smallest = self._base = max(SMALLEST_BYTES, SEGMENTS_PER_PIECE * segment_bytes)
        self._rates = list[float]()
        self._began, self._num_pieces, self._num_bytes = 0.0, -NUM_FIRST, 0

    @property
    def num_bytes(self) -> int:
        """How many bytes the next piece should have."""
        return self._base << len(self._rates) % 2

    def report(self, num_bytes: int) -> None:
        """Note that a piece has arrived."""
        self._num_pieces += 1
        self._num_bytes += num_bytes
        if self._num_pieces == NUM_SKIPPED:  # these were asked for when the size was another one
            self._began, self._num_bytes = time.monotonic(), 0
        if self._num_pieces < NUM_SKIPPED + NUM_COUNTED:
            return
        self._rates.append(self._num_bytes / max(1e-9, time.monotonic() - self._began))
        self._num_pieces = 0
        if len(self._rates) == 3:
            self._adapt()

    def _adapt(self) -> None:
        before, large, after = self._rates
        ratio = 2 * large / (before + after)
        if ratio > GROW_ABOVE:
            self._base = max(self._smallest, min(self._base * 2, LARGEST_BYTES))
        elif ratio < SHRINK_BELOW:
            self._base = max(self._base // 2, self._smallest)
        self._rates.clear()
