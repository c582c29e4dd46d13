from queue import SimpleQueue

from wds_bone.remote.demand import Demand, Piece, Want

WANT = Want(shard=0, segment=3, offset=30, size=10, part=None)


def test_who_waits_for_an_image_of_two_pieces_is_answered_by_the_first_that_arrives() -> None:
    demand, waiter = Demand(), SimpleQueue()
    demand.add(WANT, waiter)
    small, large = Piece(0, 3, 4, 30, 40, None), Piece(0, 2, 6, 20, 60, None)
    demand.start(demand.pop(), small)
    demand.start(None, large)  # the shard has got a place in the cache, or the claim of the small one has expired
    assert demand.finish(small) == [(WANT, [waiter])]
    assert demand.finish(large) == []


def test_who_begins_to_wait_while_an_image_is_being_fetched_gets_that_answer() -> None:
    demand, waiter = Demand(), SimpleQueue()
    demand.start(None, piece := Piece(0, 2, 6, 20, 60, None))
    demand.add(WANT, waiter)
    assert demand.pop() is None
    assert demand.finish(piece) == [(WANT, [waiter])]
