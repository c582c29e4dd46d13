"""As many bytes are in flight as the link can carry, whatever its rate and its delay."""

import pytest

from wds_bone.remote import in_flight
from wds_bone.remote.in_flight import LEAST_BYTES, InFlight

PIECE_BYTES, MOST_BYTES = 200_000, 2**27


def settle(monkeypatch: pytest.MonkeyPatch, *, bytes_per_second: float, delay_seconds: float) -> int:
    """Return the bytes in flight on a link on which requests wait for each other."""
    now, number = 0.0, InFlight(MOST_BYTES)
    monkeypatch.setattr(in_flight.time, "monotonic", lambda: now)
    for _ in range(300):
        queue_seconds = number.max_bytes / bytes_per_second
        seconds = max(delay_seconds + PIECE_BYTES / bytes_per_second, queue_seconds)
        now += seconds
        for _ in range(number.max_bytes // PIECE_BYTES):
            number.report(PIECE_BYTES, seconds)
    return number.max_bytes


@pytest.mark.parametrize("bytes_per_second", [1e6, 25e6, 1e9])
@pytest.mark.parametrize("delay_seconds", [0.0, 0.05, 0.5])
def test_the_link_is_busy_and_its_queue_is_short(
    bytes_per_second: float, delay_seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = settle(monkeypatch, bytes_per_second=bytes_per_second, delay_seconds=delay_seconds)
    carried = bytes_per_second * delay_seconds
    assert min(carried, MOST_BYTES) <= found <= 3 * (LEAST_BYTES + carried)
