"""Find out how many bytes to fetch by one request.

In: how long requests took.
Out: a number of bytes.
Invariant: where the fixed cost of a request dominates (a fast link, or one with a long delay), pieces grow; where the
link is busy with their bytes, they shrink to little more than what was asked for.

Two sizes are used in turn, one twice the other. If the larger piece takes hardly longer, both sizes are doubled, and if
it takes about twice as long, they are halved. This needs no model of the link: it also holds if requests wait for each
other, or for a processor.
"""

SMALLEST_BYTES, LARGEST_BYTES = 64 * 2**10, 2 * 2**20
SEGMENTS_PER_PIECE = 2
NUM_REPORTS = 6
GROW_BELOW, SHRINK_ABOVE = 1.5, 1.75


class PieceSize:
    """The number of bytes of the next pieces. Not thread-safe.

    Args:
        segment_bytes: the usual size of a segment.
    """

    def __init__(self, segment_bytes: int) -> None:
        self._smallest = self._base = max(SMALLEST_BYTES, SEGMENTS_PER_PIECE * segment_bytes)
        self._reports: tuple[list[float], list[float]] = [], []

    def next_bytes(self) -> int:
        """Return how many bytes the next piece should have."""
        fewer_large = len(self._reports[1]) < len(self._reports[0])
        return self._base << fewer_large

    def report(self, num_bytes: int, seconds: float) -> None:
        """Note how long a request took."""
        size = num_bytes / self._base
        if not 0.6 <= size < 2.4:
            return  # of another size than was asked for, because its neighbors had been fetched before
        self._reports[size > 1.3].append(seconds)
        small, large = self._reports
        if min(len(small), len(large)) >= NUM_REPORTS:
            self._adapt(_median(large) / max(1e-9, _median(small)))

    def _adapt(self, ratio: float) -> None:
        if ratio < GROW_BELOW:
            self._base = max(min(self._base * 2, LARGEST_BYTES), self._smallest)
        elif ratio > SHRINK_ABOVE:
            self._base = max(self._base // 2, self._smallest)
        self._reports = [], []


def _median(seconds: list[float]) -> float:
    return sorted(seconds)[len(seconds) // 2]
