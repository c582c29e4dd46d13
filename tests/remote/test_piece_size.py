"""Pieces are small, unless larger ones bring more bytes per second."""

from collections.abc import Callable

import pytest

from wds_bone.remote import piece_size
from wds_bone.remote.piece_size import LARGEST_BYTES, NUM_FIRST, SMALLEST_BYTES, PieceSize

SecondsOf = Callable[[int], float]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(piece_size, "time", clock)
    return clock


def settle(size: PieceSize, clock: Clock, seconds_of: SecondsOf, *, num_pieces: int = 2000) -> int:
    """Return the smaller one of the sizes that are used where pieces of n bytes arrive at such intervals."""
    sizes = []
    for _ in range(num_pieces):
        sizes.append(size.num_bytes)
        clock.now += seconds_of(size.num_bytes)
        size.report(size.num_bytes)
    return min(sizes[-200:])


@pytest.mark.parametrize(
    ("seconds_per_request", "bytes_per_second", "smallest", "largest"),
    [
        (0.000, 25e6, SMALLEST_BYTES, SMALLEST_BYTES),  # the link is busy
        (0.020, 1e9, LARGEST_BYTES, LARGEST_BYTES),  # a server that is slow at requests
        (0.001, 2e8, SMALLEST_BYTES, 2**19),  # a request costs as much as 200 kB
    ],
)
def test_pieces_are_as_large_as_what_a_request_costs_in_bytes(
    clock: Clock, seconds_per_request: float, bytes_per_second: float, smallest: int, largest: int
) -> None:
    found = settle(PieceSize(30_000), clock, lambda num_bytes: seconds_per_request + num_bytes / bytes_per_second)
    assert smallest <= found <= largest


def test_pieces_shrink_again_when_the_link_becomes_slow(clock: Clock) -> None:
    size = PieceSize(30_000)
    assert settle(size, clock, lambda num_bytes: 0.001 + num_bytes / 1e9) > SMALLEST_BYTES
    assert settle(size, clock, lambda num_bytes: 0.001 + num_bytes / 1e6) == SMALLEST_BYTES


def test_a_rate_that_rises_by_itself_does_not_make_pieces_larger(clock: Clock) -> None:
    rate = iter(1e6 * 1.003**number for number in range(10_000))
    assert settle(PieceSize(30_000), clock, lambda num_bytes: num_bytes / next(rate)) == SMALLEST_BYTES


def test_a_piece_has_room_for_more_than_one_segment_and_the_first_ones_are_small(clock: Clock) -> None:
    size = PieceSize(400_000)
    assert size.num_bytes == 800_000
    settle(size, clock, lambda _: 0.02, num_pieces=NUM_FIRST)
    assert size.num_bytes == 800_000
