"""Pieces are as small as they may be, and as large as they must be."""

from wds_bone.remote.piece_size import LARGEST_BYTES, NUM_REPORTS, SMALLEST_BYTES, PieceSize


def after(size: PieceSize, *, num_reports: int, is_short: bool) -> int:
    for _ in range(num_reports):
        size.report(is_short=is_short)
    return size.num_bytes


def test_pieces_grow_while_requests_are_the_limit_and_shrink_when_the_link_is() -> None:
    size = PieceSize(30_000)
    assert size.num_bytes == SMALLEST_BYTES
    assert after(size, num_reports=NUM_REPORTS, is_short=True) == 2 * SMALLEST_BYTES
    assert after(size, num_reports=100 * NUM_REPORTS, is_short=True) == LARGEST_BYTES
    assert after(size, num_reports=100 * NUM_REPORTS, is_short=False) == SMALLEST_BYTES


def test_a_piece_has_room_for_more_than_one_segment() -> None:
    assert PieceSize(400_000).num_bytes == 800_000


def test_pieces_keep_their_size_while_reports_disagree() -> None:
    size = PieceSize(30_000)
    for number in range(100 * NUM_REPORTS):
        size.report(is_short=number % 2 == 0)
    assert size.num_bytes == SMALLEST_BYTES
