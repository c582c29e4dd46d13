"""Describe a shard in object storage, and how it is divided into segments.

In: the index of a shard.
Out: the segment of an image, and the bytes of a segment.
Invariant: the segments of a shard cover all its bytes, and each contains one image. They depend on the whole shard and
not on which samples of it are used, so all processes that share a cache agree on them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wds_bone.objects.protocol import ChangedError
from wds_bone.objects.url import Url


class WrongContentsError(ChangedError):
    """A shard whose contents, fetched twice, are not those of its index; `sha256` is their digest."""

    def __init__(self, sha256: str) -> None:
        super().__init__("its contents are not those of its index, and were not when they were fetched again")
        self.sha256 = sha256


@dataclass(frozen=True, eq=False)
class RemoteShard:
    """A shard in object storage. Segment i is from the end of image i - 1 to that of image i, the last to the end.

    Attributes:
        url: where it is.
        sha256: the digest of its contents, in hexadecimal digits.
        num_bytes: its size.
        image_ends: int64 (images,), where each image ends, in the order of the tar.
    """

    url: Url
    sha256: str
    num_bytes: int
    image_ends: NDArray[np.int64]

    @property
    def num_segments(self) -> int:
        """The number of segments, which is the number of images."""
        return len(self.image_ends)

    def segment_at(self, offset: int) -> int:
        """Return the segment of the image that begins at `offset`."""
        return int(self.image_ends.searchsorted(offset, side="right"))

    def start_of(self, segment: int) -> int:
        """Return where a segment begins."""
        return int(self.image_ends[segment - 1]) if segment else 0

    def end_of(self, segment: int) -> int:
        """Return where a segment ends."""
        return int(self.image_ends[segment]) if segment < self.num_segments - 1 else self.num_bytes
