"""Divide samples into the folds of a cross-validation.

In: the table of the samples of a split.
Out: the number of each sample's fold.
Invariant: a sample's fold is a function of the labels, the seed and the number of folds, not of the order of the
samples or of how they are distributed over shards.
"""

from hashlib import blake2b
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wds_bone.shards.samples import SampleTable
from wds_bone.stream.selection import Keep


def fold_numbers(table: SampleTable, *, num_folds: int, seed: int) -> NDArray[np.int64]:
    """Return the fold of each sample, int64 (n,), 0 to `num_folds` - 1.

    The folds are stratified: of every `num_folds` consecutive samples, sorted by gender and age, each goes to a
    different fold, chosen by a hash.
    """
    draws = np.array([_hash(key, seed) for key in table["key"].tolist()], np.uint64)
    by_label = np.lexsort((draws, table["age_months"], table["gender"]))
    run = np.arange(len(table)) // num_folds
    redrawn = np.array([_hash(key, seed + 1) for key in table["key"][by_label].tolist()], np.uint64)
    within_runs = np.lexsort((redrawn, run))
    folds = np.empty(len(table), np.int64)
    folds[by_label[within_runs]] = np.arange(len(table)) % num_folds
    return folds


def keep_fold(part: Literal["train", "val"], *, fold: int, num_folds: int, seed: int) -> Keep:
    """Return the function that keeps one fold for validation, or all other folds for training."""
    return lambda table: (fold_numbers(table, num_folds=num_folds, seed=seed) == fold) == (part == "val")


def _hash(key: bytes, seed: int) -> int:
    return int.from_bytes(blake2b(key, digest_size=8, key=seed.to_bytes(8, "little")).digest(), "little")
