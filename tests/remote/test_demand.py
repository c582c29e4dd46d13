"""Which images are needed, and which are being fetched."""

from queue import SimpleQueue

from wds_bone.remote.demand import Demand, Piece, Waiter, Want
from wds_bone.remote.storage import MAX_BATCHES_AHEAD

WANT = Want(shard=0, segment=3, offset=3000, size=500, part=None)
PIECE = Piece(shard=0, first=2, stop=5, start=2000, end=5000, part=None)


def in_flight() -> Demand:
    """Return the demand while the piece around the image is being fetched for a thread that waits for it."""
    demand = Demand()
    demand.add(WANT, SimpleQueue())
    assert demand.pop() == WANT
    demand.start(WANT, PIECE)
    return demand


def test_whoever_needs_an_image_that_is_being_fetched_waits_for_the_same_piece() -> None:
    demand, waiter = in_flight(), Waiter()
    demand.add(WANT, waiter)
    ((want, waiters),) = demand.finish(PIECE)
    assert want == WANT
    assert waiters[-1] is waiter
    demand.repeat(PIECE)
    assert demand.pop() is None


def test_an_image_that_failed_its_checksum_is_fetched_again_even_while_it_is_being_fetched() -> None:
    demand, waiter = in_flight(), Waiter()
    repeated = WANT._replace(is_repeated=True)
    demand.add(repeated, waiter)
    ((_, waiters),) = demand.finish(PIECE)
    assert waiter not in waiters
    demand.repeat(PIECE)
    assert demand.pop() == repeated
    assert demand.settle(repeated) == [waiter]


def test_who_waits_for_an_image_of_two_pieces_is_answered_by_the_first_that_arrives() -> None:
    demand, waiter = Demand(), Waiter()
    demand.add(WANT, waiter)
    small, large = Piece(0, 3, 4, 30, 40, None), Piece(0, 2, 6, 20, 60, None)
    demand.start(demand.pop(), small)
    demand.start(None, large)  # the shard has got a place in the cache, or the claim of the small one has expired
    assert demand.finish(small) == [(WANT, [waiter])]
    assert demand.finish(large) == []


def test_who_begins_to_wait_while_an_image_is_being_fetched_gets_that_answer() -> None:
    demand, waiter = Demand(), Waiter()
    demand.start(None, piece := Piece(0, 2, 6, 20, 60, None))
    demand.add(WANT, waiter)
    assert demand.pop() is None
    assert demand.finish(piece) == [(WANT, [waiter])]


def test_of_all_images_that_a_loader_announces_the_first_comes_first() -> None:
    demand, rows = Demand(), 512  # a batch of small images
    for segment in range(MAX_BATCHES_AHEAD * rows):
        demand.add(WANT._replace(segment=segment), None)
    first = demand.pop()
    assert first is not None
    assert first.segment == 0
