"""Divide samples into the folds of a cross-validation.

In: the table of the samples of a split.
Out: the number of each sample's fold.
Invariant: a sample's fold is a function of the labels, the films that are of one patient, the seed and the number of
folds, not of the order of the samples or of how they are distributed over shards.
"""

from hashlib import blake2b
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wds_bone.shards.samples import SampleTable
from wds_bone.stream.selection import Keep


def fold_numbers(table: SampleTable, *, num_folds: int, seed: int) -> NDArray[np.int64]:
    """Return the fold of each sample, int64 (n,), 0 to `num_folds` - 1; all films of a patient are in one fold.

    A patient is represented by the film in the middle, by gender and age. The folds are stratified: of every
    `num_folds` consecutive patients, sorted by gender and age, each goes to a different fold. The one with the most
    films goes to the fold that has the fewest; a hash decides between equals. The numbers of films in two folds
    therefore differ by at most those of one patient.

    Args:
        table: the table of the samples; its field `group` is equal for the films of a patient. Without it, every sample
            is a patient.
        num_folds: the number of folds.
        seed: the key of the hash.
    """
    groups = table["group"] if "group" in (table.dtype.names or ()) else np.arange(len(table))
    _, patient, num_films = np.unique(groups, return_inverse=True, return_counts=True)
    by_patient = np.lexsort((table["key"], table["age_months"], table["gender"], patient))
    middle = table[by_patient[np.cumsum(num_films) - num_films + num_films // 2]]
    by_label = np.lexsort((_hashes(middle["key"], seed), middle["age_months"], middle["gender"]))
    run = np.empty(len(middle), np.int64)
    run[by_label] = np.arange(len(middle)) // num_folds
    order = np.lexsort((_hashes(middle["key"], seed + 1), -num_films, run))
    return _fill_folds(order, num_films, num_folds)[patient]


def _fill_folds(order: NDArray[np.int64], num_films: NDArray[np.int64], num_folds: int) -> NDArray[np.int64]:
    """Return the fold of each patient; each run of `num_folds` patients goes to the folds from the emptiest on."""
    folds = np.empty(len(order), np.int64)
    totals = np.zeros(num_folds, np.int64)
    for start in range(0, len(order), num_folds):
        run = order[start : start + num_folds]
        emptiest = np.argsort(totals, kind="stable")[: len(run)]
        folds[run] = emptiest
        totals[emptiest] += num_films[run]
    return folds


def keep_fold(part: Literal["train", "val"], *, fold: int, num_folds: int, seed: int) -> Keep:
    """Return the function that keeps one fold for validation, or all other folds for training."""
    return lambda table: (fold_numbers(table, num_folds=num_folds, seed=seed) == fold) == (part == "val")


def _hashes(keys: NDArray[np.bytes_], seed: int) -> NDArray[np.uint64]:
    return np.array([_hash(key, seed) for key in keys.tolist()], np.uint64)


def _hash(key: bytes, seed: int) -> int:
    return int.from_bytes(blake2b(key, digest_size=8, key=seed.to_bytes(8, "little")).digest(), "little")
