"""Choose the samples to hold out and the order of writing, as pure functions of the labels and a seed.

In: labels.
Out: the same labels, in two lists or in a different order.
Invariant: the result does not depend on the order of the table or the version of NumPy, because every choice is made by
a keyed hash of the sample's key.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TypeVar

from wds_bone.labels.read import Label
from wds_bone.shards.statistics import AGE_BAND_MONTHS

Sample = TypeVar("Sample")


def split_labels(labels: Iterable[Label], val_fraction: float, *, seed: int) -> tuple[list[Label], list[Label]]:
    """Return (train, val), stratified by gender and 12-month age band.

    The strata are concatenated, each in hashed order, and samples are held out at even intervals. The held-out share is
    therefore exact to within one sample, both in each stratum and overall.
    """
    strata: dict[tuple[str, int], list[Label]] = defaultdict(list)
    for label in labels:
        strata[label.gender, int(label.age_months // AGE_BAND_MONTHS)].append(label)
    ordered = [label for stratum in sorted(strata) for label in shuffle_labels(strata[stratum], seed=seed)]
    held_out = [int((i + 1) * val_fraction + 0.5) > int(i * val_fraction + 0.5) for i in range(len(ordered))]
    train = [label for label, out in zip(ordered, held_out, strict=True) if not out]
    val = [label for label, out in zip(ordered, held_out, strict=True) if out]
    return train, val


def shuffle_labels(labels: Iterable[Label], *, seed: int) -> list[Label]:
    """Return the labels in an order that is independent of key order, age and gender."""
    return sorted(labels, key=lambda label: _keyed_hash(label.key, seed))


def divide_evenly(samples: Sequence[Sample], size: int) -> list[Sequence[Sample]]:
    """Return consecutive chunks of at most `size` samples; their lengths differ by at most one."""
    num_chunks = -(-len(samples) // size)
    bounds = [len(samples) * chunk // num_chunks for chunk in range(num_chunks + 1)]
    return [samples[start:stop] for start, stop in pairwise(bounds)]


def _keyed_hash(key: str, seed: int) -> bytes:
    return hashlib.blake2b(key.encode(), key=str(seed).encode(), digest_size=16).digest()
