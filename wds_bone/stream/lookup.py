"""Look up the labels of planned samples, and where their images are stored.

In: `BatchPlan`s.
Out: a `Request` for each.
Invariant: the rows of a request are the samples of its plan, in order. Many plans are looked up at once, because a
NumPy call costs as much for one batch as for sixteen.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wds_bone.stream.order import shard_of
from wds_bone.stream.plan import BatchPlan
from wds_bone.stream.selection import Selection

SAMPLES_AT_ONCE = 1024


class StoredImage(NamedTuple):
    """Where the image of a sample is stored, and its checksum; `number` and `shard` are indices in the selection."""

    number: int
    shard: int
    offset: int
    size: int
    crc32: int
    encoding: str


@dataclass(frozen=True, eq=False, slots=True)
class Request:
    """A planned batch with everything known about it before its images are read.

    Attributes:
        plan: the batch.
        labels: float32 (3, rows): gender, age in months, weight; 0 for padding.
        keys: the keys of all rows, "" for padding.
        images: where the images of the first k rows are stored; the other rows are padding.
    """

    plan: BatchPlan
    labels: NDArray[np.float32]
    keys: list[str]
    images: list[StoredImage]


def look_up(plans: Iterable[BatchPlan], selection: Selection) -> Iterator[Request]:
    """Yield a request for each plan, in order; looks up at most `SAMPLES_AT_ONCE` samples, or one epoch, at a time."""
    samples_at_once, remaining = min(SAMPLES_AT_ONCE, len(selection.table)), iter(plans)
    for plan in remaining:
        further = islice(remaining, max(0, samples_at_once // len(plan.positions) - 1))
        yield from _look_up_together([plan, *further], selection)


def _look_up_together(plans: list[BatchPlan], selection: Selection) -> Iterator[Request]:
    samples = np.concatenate([plan.samples for plan in plans])
    known = selection.table[samples]
    labels = np.ones((3, len(samples)), np.float32)
    labels[0], labels[1] = known["gender"] == b"M", known["age_months"]
    keys = [key.decode() for key in known["key"].tolist()]
    columns = (samples, shard_of(samples, selection.first_sample), known["offset"], known["size"], known["crc32"])
    encodings = known["encoding"].astype(str).tolist()
    images = list(map(StoredImage, *(column.tolist() for column in columns), encodings))
    first = 0
    for plan in plans:
        here = slice(first, first + len(plan.samples))
        num_padding = len(plan.positions) - len(plan.samples)
        own = np.ascontiguousarray(labels[:, here])  # a batch that is kept must not keep the labels of the others
        padded = np.pad(own, ((0, 0), (0, num_padding))) if num_padding else own
        yield Request(plan, padded, keys[here] + [""] * num_padding, images[here])
        first = here.stop
