"""Decide which samples are held out and in which order samples are written; pure functions of the labels and a seed.

In: labels. Out: the same labels in two lists, or in another order. Invariant: neither the order of the table nor the
version of NumPy changes the result, because every choice is made by a keyed hash of the sample's key.
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
    """Return (train, val), stratified by gender and age band of 12 months.

    The strata are laid end to end, each in hashed order, and every k-th sample is held out: the shares of the strata
    are then right to one sample, and so is the share of the whole.
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
    """Return the labels in an order that has nothing to do with key, age or gender."""
    return sorted(labels, key=lambda label: _keyed_hash(label.key, seed))


def divide_evenly(samples: Sequence[Sample], size: int) -> list[Sequence[Sample]]:
    """Return runs of at most `size` samples whose lengths differ by one at most."""
    num_runs = -(-len(samples) // size)
    bounds = [len(samples) * run // num_runs for run in range(num_runs + 1)]
    return [samples[start:stop] for start, stop in pairwise(bounds)]


def _keyed_hash(key: str, seed: int) -> bytes:
    return hashlib.blake2b(key.encode(), key=str(seed).encode(), digest_size=16).digest()
