"""Choose the samples to hold out and the order of writing, as pure functions of the labels and a seed.

In: labels, and the patient of each if it is known.
Out: the same labels, in two lists or in a different order.
Invariant: the result does not depend on the order of the table or the version of NumPy, because every choice is made by
a keyed hash of the sample's key.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

from wds_bone.labels.read import Label
from wds_bone.sharding.patients import NO_PATIENTS, films_by_patient
from wds_bone.shards.statistics import AGE_BAND_MONTHS

Sample = TypeVar("Sample")


def split_labels(
    labels: Iterable[Label], val_fraction: float, *, seed: int, patients: Mapping[str, str] = NO_PATIENTS
) -> tuple[list[Label], list[Label]]:
    """Return (train, val), stratified by gender and 12-month age band, with all films of a patient in one of them.

    A patient is in the stratum of the film in the middle, by gender and age. The strata are concatenated, each in
    hashed order, and patients are held out at even intervals. The held-out share is therefore exact to within one
    patient, both in each stratum and overall.

    Args:
        labels: the labels, in any order.
        val_fraction: the share of the samples in val, 0 to less than 1.
        seed: the key of the hash.
        patients: the patient of each key; a key that is not in it is a patient with one film.
    """
    films = {part[len(part) // 2].key: part for part in films_by_patient(labels, patients)}
    strata: dict[tuple[str, int], list[Label]] = defaultdict(list)
    for middle in (part[len(part) // 2] for part in films.values()):
        strata[middle.gender, int(middle.age_months // AGE_BAND_MONTHS)].append(middle)
    train: list[Label] = []
    val: list[Label] = []
    for middle in (label for stratum in sorted(strata) for label in shuffle_labels(strata[stratum], seed=seed)):
        part = films[middle.key]
        num_missing = int((len(train) + len(val) + len(part)) * val_fraction + 0.5) - len(val)
        (val if 2 * num_missing >= len(part) else train).extend(part)
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
