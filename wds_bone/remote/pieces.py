"""Choose which bytes to fetch by one request.

In: an image that is needed, and what else is needed or missing around it.
Out: a `Piece`.
Invariant: a piece of a shard in the cache consists of segments that are missing and that no other thread is fetching;
they are claimed. A piece of another shard is from one image that is needed to another one.
"""

from wds_bone.remote.demand import Demand, Piece, Want
from wds_bone.remote.part_file import MISSING, PartFile, is_free

LARGEST_BYTES = 4 * 2**20
LARGEST_WITHOUT_CACHE_BYTES = 2**20


def images_around(want: Want, demand: Demand) -> Piece:
    """Return a piece of the images next to each other that are needed, for a shard that is not in the cache."""
    first = last = want
    while (after := demand.get(want.shard, last.segment + 1)) and _fits(first, after):
        last = after
    while (before := demand.get(want.shard, first.segment - 1)) and _fits(before, last):
        first = before
    return Piece(want.shard, first.segment, last.segment + 1, first.offset, last.offset + last.size, None)


def segments_around(
    segment: int, part: PartFile, demand: Demand, *, number: int, num_bytes: int, most_bytes: int
) -> Piece | None:
    """Return a piece of the missing segments around one, and claim it; None if that one is there or claimed.

    Args:
        segment: the segment.
        part: the file of the shard in the cache.
        demand: what is needed.
        number: the number of the shard.
        num_bytes: about how many bytes to fetch, or more if more of the segments next to each other are needed.
        most_bytes: how many bytes to fetch at most.

    Raises:
        OSError: if the disk fails.
    """
    with part.exclusive():
        marks = part.marks()
        if not is_free(marks[segment]):
            return None
        piece = _grow(segment, part, marks, demand, number=number, num_bytes=num_bytes, most_bytes=most_bytes)
        part.claim(piece.first, piece.stop)
    return piece


def _grow(
    segment: int, part: PartFile, marks: bytes, demand: Demand, *, number: int, num_bytes: int, most_bytes: int
) -> Piece:
    """Return the piece of missing segments around one."""
    shard, first, stop = part.shard, segment, segment + 1

    def takes(other: int, start: int, end: int) -> bool:
        limit = LARGEST_BYTES if demand.get(number, other) else num_bytes
        return is_free(marks[other]) and end - start <= min(limit, most_bytes)

    while stop < len(marks) and takes(stop, shard.start_of(first), shard.end_of(stop)):
        stop += 1
    while first and takes(first - 1, shard.start_of(first - 1), shard.end_of(stop - 1)):
        first -= 1
    return Piece(number, first, stop, shard.start_of(first), shard.end_of(stop - 1), part)


def gap_in(part: PartFile, demand: Demand, *, number: int, num_bytes: int) -> Piece | None:
    """Return a piece of segments that nobody has asked for, or no bytes of a shard that is complete but not published.

    Raises:
        OSError: if the disk fails.
    """
    marks = part.marks()
    segment = marks.find(MISSING)
    if segment < 0:  # what a killed process has claimed
        segment = next((number for number, mark in enumerate(marks) if is_free(mark)), -1)
    if segment >= 0:
        return segments_around(segment, part, demand, number=number, num_bytes=num_bytes, most_bytes=num_bytes)
    return Piece(number, 0, 0, 0, 0, part) if part.is_unpublished() else None


def _fits(first: Want, last: Want) -> bool:
    return last.offset + last.size - first.offset <= LARGEST_WITHOUT_CACHE_BYTES
