"""Find out how many bytes to have in flight.

In: what arrived, and how long it took.
Out: a number of bytes.
Invariant: enough to keep the link busy and hardly more. What exceeds that waits in the queue of the link, where it
delays what is needed first.

The link is busy with as many bytes as arrive while one request takes that waits for no other one: its rate times the
shortest time of a request. A little more than that is asked for, so that the number grows until the rate does not, as
in the congestion control BBR (Cardwell et al., ACM Queue 14(5), 2016).
"""

import math
import time
from collections import deque

LEAST_BYTES = 2**20
GAIN = 1.25
WINDOW_SECONDS, NUM_WINDOWS = 0.1, 10


class InFlight:
    """The number of bytes that may be in flight. Not thread-safe.

    Args:
        most_bytes: an upper bound.

    Attributes:
        max_bytes: the number.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._shortest_seconds, self._rates = math.inf, deque([0.0], maxlen=NUM_WINDOWS)
        self._began, self._num_bytes = 0.0, 0
        self.max_bytes = LEAST_BYTES

    def report(self, num_bytes: int, seconds: float) -> None:
        """Note that a request has brought so many bytes, and how long it took."""
        self._shortest_seconds = min(self._shortest_seconds, seconds)
        self._num_bytes += num_bytes
        passed = time.monotonic() - self._began
        if passed < max(WINDOW_SECONDS, self._shortest_seconds):
            return
        self._rates.append(self._num_bytes / passed)
        self._began, self._num_bytes = self._began + passed, 0
        self.max_bytes = min(self._most_bytes, LEAST_BYTES + int(GAIN * max(self._rates) * self._shortest_seconds))
