"""Look up what the index says of planned samples: their labels, and where their bytes lie.

In: `BatchPlan`s. Out: a `Request` for each. Invariant: the rows of a request are the samples of its plan, in order.
Many plans are looked up at once: one call of NumPy for each of many batches would cost more than all the rest of them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from wds_bone.stream.plan import BatchPlan
from wds_bone.stream.selection import Selection

SAMPLES_AT_ONCE = 4096

Stored = tuple[int, int, int, int, int, str]
"""Of one sample: its number, its shard's number, offset and size of its image, the image's crc32, and its encoding."""


@dataclass(frozen=True, eq=False, slots=True)
class Request:
    """A planned batch, and all that is known of it before its images are read.

    Attributes:
        plan: the batch.
        labels: float32 (3, rows): gender, age in months, weight; 0 for padding.
        keys: of all rows, "" for padding.
        stored: where the images of the first k rows lie.
    """

    plan: BatchPlan
    labels: NDArray[np.float32]
    keys: list[str]
    stored: list[Stored]


def look_up(plans: Iterable[BatchPlan], selection: Selection) -> Iterator[Request]:
    """Yield a request for each plan, in order; takes plans of `SAMPLES_AT_ONCE` samples at a time, an epoch at most."""
    samples_at_once, remaining = min(SAMPLES_AT_ONCE, len(selection.table)), iter(plans)
    for plan in remaining:
        further = islice(remaining, max(0, samples_at_once // len(plan.positions) - 1))
        yield from _look_up_together([plan, *further], selection)


def shard_of(samples: NDArray[np.int64], selection: Selection) -> NDArray[np.int64]:
    """Return the number of the shard of each sample number."""
    return np.searchsorted(selection.first_sample, samples, side="right") - 1


def _look_up_together(plans: list[BatchPlan], selection: Selection) -> Iterator[Request]:
    samples = np.concatenate([plan.samples for plan in plans])
    known = selection.table[samples]
    labels = np.ones((3, len(samples)), np.float32)
    labels[0], labels[1] = known["gender"] == b"M", known["age_months"]
    keys = [key.decode() for key in known["key"].tolist()]
    columns = (samples, shard_of(samples, selection), known["offset"], known["size"], known["crc32"])
    encodings = known["encoding"].astype(str).tolist()
    stored: list[Stored] = list(zip(*(column.tolist() for column in columns), encodings, strict=True))
    first = 0
    for plan in plans:
        here = slice(first, first + len(plan.samples))
        num_padding = len(plan.positions) - len(plan.samples)
        padded = np.pad(labels[:, here], ((0, 0), (0, num_padding))) if num_padding else labels[:, here]
        yield Request(plan, padded, keys[here] + [""] * num_padding, stored[here])
        first = here.stop
