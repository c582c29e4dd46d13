"""Choose which bytes to fetch by one request.

In: an image that is needed, and what else is needed or missing around it.
Out: a `Piece`.
Invariant: a piece of a shard in the cache consists of segments that are missing and that no other thread is fetching;
they are claimed. A piece of another shard is from one image that is needed to another one.
"""

from wds_bone.remote.demand import Demand, Piece, Want
from wds_bone.remote.part_file import MISSING, PartFile, is_free


def images_around(want: Want, demand: Demand, *, num_bytes: int) -> Piece:
    """Return a piece of the images next to each other that are needed, for a shard that is not in the cache."""
    first = last = want
    while (after := demand.get(want.shard, last.segment + 1)) and _size(first, after) <= num_bytes:
        last = after
    while (before := demand.get(want.shard, first.segment - 1)) and _size(before, last) <= num_bytes:
        first = before
    return Piece(want.shard, first.segment, last.segment + 1, first.offset, last.offset + last.size, None)


def segments_around(segment: int, part: PartFile, *, number: int, num_bytes: int) -> Piece | None:
    """Return a piece of the missing segments around one, and claim it; None if that one is there or claimed.

    Args:
        segment: the segment.
        part: the file of the shard in the cache.
        number: the number of the shard.
        num_bytes: about how many bytes to fetch.

    Raises:
        OSError: if the disk fails.
    """
    with part.exclusive():
        marks = part.marks()
        if not is_free(marks[segment]):
            return None
        piece = _grow(segment, part, marks, number=number, num_bytes=num_bytes)
        part.claim(piece.first, piece.stop)
    return piece


def _grow(segment: int, part: PartFile, marks: bytes, *, number: int, num_bytes: int) -> Piece:
    """Return the piece of missing segments around one."""
    shard, first, stop = part.shard, segment, segment + 1

    def takes(other: int, start: int, end: int) -> bool:
        return is_free(marks[other]) and end - start <= num_bytes

    while stop < len(marks) and takes(stop, shard.start_of(first), shard.end_of(stop)):
        stop += 1
    while first and takes(first - 1, shard.start_of(first - 1), shard.end_of(stop - 1)):
        first -= 1
    return Piece(number, first, stop, shard.start_of(first), shard.end_of(stop - 1), part)


def gap_in(part: PartFile, *, number: int, num_bytes: int) -> Piece | None:
    """Return a piece of segments that nobody has asked for, or no bytes of a shard that is complete but not published.

    Raises:
        OSError: if the disk fails.
    """
    marks = part.marks()
    segment = marks.find(MISSING)
    if segment < 0:  # what a killed process has claimed
        segment = next((number for number, mark in enumerate(marks) if is_free(mark)), -1)
    if segment >= 0:
        return segments_around(segment, part, number=number, num_bytes=num_bytes)
    return Piece(number, 0, 0, 0, 0, part) if part.is_unpublished() else None


def _size(first: Want, last: Want) -> int:
    return last.offset + last.size - first.offset
