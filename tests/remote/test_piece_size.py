from collections.abc import Callable

import pytest

from wds_bone.remote.piece_size import LARGEST_BYTES, SMALLEST_BYTES, PieceSize


def settle(seconds_of: Callable[[int], float], *, segment_bytes: int = 30_000) -> int:
    """Return the smaller one of the sizes that are used on a link where a request of n bytes takes so long."""
    size = PieceSize(segment_bytes)
    for _ in range(400):
        num_bytes = size.next_bytes()
        size.report(num_bytes, seconds_of(num_bytes))
    return min(size.next_bytes() for _ in range(2))


@pytest.mark.parametrize(
    ("latency_seconds", "bytes_per_second", "smallest", "largest"),
    [
        (0.001, 1e9, 500_000, LARGEST_BYTES),  # a fast link: the cost of a request dominates
        (0.050, 1e6, SMALLEST_BYTES, SMALLEST_BYTES),  # the share of a thread in a slow link with a delay
        (0.000, 1e6, SMALLEST_BYTES, SMALLEST_BYTES),  # the link is busy with bytes
        (1.000, 1e9, LARGEST_BYTES, LARGEST_BYTES),
    ],
)
def test_pieces_are_as_large_as_what_a_request_costs_in_bytes(
    latency_seconds: float, bytes_per_second: float, smallest: int, largest: int
) -> None:
    found = settle(lambda num_bytes: latency_seconds + num_bytes / bytes_per_second)
    assert smallest <= found <= largest


def test_requests_that_wait_for_each_other_do_not_change_the_result() -> None:
    fast = settle(lambda num_bytes: 0.001 + num_bytes / 1e9)
    assert settle(lambda num_bytes: 16 * (0.001 + num_bytes / 1e9)) == fast


def test_a_piece_has_room_for_more_than_one_segment() -> None:
    assert settle(lambda num_bytes: num_bytes / 1e6, segment_bytes=400_000) == 800_000


def test_pieces_shrink_again_when_the_link_becomes_slow() -> None:
    size = PieceSize(30_000)
    for bytes_per_second in (1e9, 1e5):
        for _ in range(400):
            num_bytes = size.next_bytes()
            size.report(num_bytes, 0.001 + num_bytes / bytes_per_second)
    assert size.next_bytes() <= 2 * SMALLEST_BYTES


def test_pieces_that_are_cut_short_by_their_neighbors_do_not_count() -> None:
    size = PieceSize(30_000)
    for _ in range(100):
        size.report(10_000, 5.0)
    assert size.next_bytes() == SMALLEST_BYTES
