"""Which images are needed, and which are being fetched."""

from queue import SimpleQueue

from wds_bone.remote.demand import Demand, Piece, Waiter, Want

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
    assert not demand.repeat(PIECE)
    assert demand.pop() is None


def test_an_image_that_failed_its_checksum_is_fetched_again_even_while_it_is_being_fetched() -> None:
    demand, waiter = in_flight(), Waiter()
    repeated = WANT._replace(is_repeated=True)
    demand.add(repeated, waiter)
    ((_, waiters),) = demand.finish(PIECE)
    assert waiter not in waiters
    assert demand.repeat(PIECE)
    assert demand.pop() == repeated
    assert demand.settle(repeated) == [waiter]
