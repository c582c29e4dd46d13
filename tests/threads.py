"""Wait until the threads of a test have ended."""

import threading
import time


def assert_threads_end(expected: int, *, seconds: float = 10.0) -> None:
    """Check that soon no more than `expected` threads are left."""
    deadline = time.monotonic() + seconds
    while threading.active_count() > expected and time.monotonic() < deadline:
        time.sleep(0.001)
    assert threading.active_count() <= expected
