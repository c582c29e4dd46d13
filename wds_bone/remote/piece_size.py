"""Find out how many bytes to fetch by one request.

In: whether more requests at a time were needed and could not be made.
Out: a number of bytes.
Invariant: a piece is little more than what was asked for, so that what is needed first arrives first, unless requests
themselves are the limit: their processor time on a fast link, or their number on one with a long delay.
"""

SMALLEST_BYTES, LARGEST_BYTES = 64 * 2**10, 4 * 2**20
SEGMENTS_PER_PIECE = 2
NUM_REPORTS = 12


class PieceSize:
    """The number of bytes of the next pieces. Not thread-safe.

    Args:
        segment_bytes: the usual size of a segment.

    Attributes:
        num_bytes: the number.
    """

    def __init__(self, segment_bytes: int) -> None:
        self._smallest = self.num_bytes = max(SMALLEST_BYTES, SEGMENTS_PER_PIECE * segment_bytes)
        self._balance = 0

    def report(self, *, is_short: bool) -> None:
        """Note whether requests are the limit; if most reports of a while agree, the size is doubled or halved."""
        self._balance += 1 if is_short else -1
        if abs(self._balance) < NUM_REPORTS:
            return
        changed = self.num_bytes * 2 if is_short else self.num_bytes // 2
        self.num_bytes, self._balance = max(min(changed, LARGEST_BYTES), self._smallest), 0
