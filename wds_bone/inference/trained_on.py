"""Recognize the samples that a checkpoint was made of, without storing their keys.

In: keys, genders and ages of samples.
Out: keyed hashes for a checkpoint; which other samples have the same key, gender and age.
Invariant: the same samples and salt give the same hashes, in any order.

A hash says whether a sample that somebody already has was a training sample. It does not protect keys that can be
guessed: who has the checkpoint can try all numbers, genders and ages.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

UNRECORDED: dict[str, Any] = {"salt": "", "hashes": None}
"""Stands for the training set of initial weights whose checkpoint does not say what they were trained on."""
_HASH_BYTES = 8
"""Two different samples among ten million on either side have the same hash with a probability of 5e-6."""


def describe_samples(
    keys: Sequence[str], genders: NDArray[Any], ages_months: NDArray[Any], *, salt: str
) -> dict[str, Any]:
    """Return what a checkpoint records about samples, to recognize them later: 8 bytes for each.

    Args:
        keys: the keys of n samples.
        genders: (n,), 1 male and 0 female.
        ages_months: (n,).
        salt: up to 64 bytes in hexadecimal, the key of the hash (BLAKE2b, RFC 7693).

    Returns:
        "salt", and "hashes", int64 (n,), sorted.
    """
    hashes = np.sort(_hash_samples(keys, genders, ages_months, salt=salt))
    return {"salt": salt, "hashes": torch.from_numpy(hashes)}


def find_samples(
    described: dict[str, Any], keys: Sequence[str], genders: NDArray[Any], ages_months: NDArray[Any]
) -> NDArray[np.bool_]:
    """Return for each sample whether it is one of those that `describe_samples` described, bool (n,).

    A match is not proof: hospitals count their films from 1, so two of them may have the same key, and then by chance
    the same gender and age in whole months. Without a match, the film may still be known under another key.
    """
    hashes = _hash_samples(keys, genders, ages_months, salt=described["salt"])
    found: NDArray[np.bool_] = np.isin(hashes, described["hashes"].numpy())
    return found


def describe_training_samples(
    keys: Sequence[str],
    genders: NDArray[Any],
    ages_months: NDArray[Any],
    *,
    salt: str,
    inherited: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """Return the entry "trained_on" of a checkpoint.

    Args:
        keys: the keys of the n training samples.
        genders: (n,), 1 male and 0 female.
        ages_months: (n,).
        salt: that of a run is its order digest, so that it is the same whenever the run is resumed.
        inherited: what the initial weights were trained on, from `list_training_sets`; nothing for the weights of
            other programs.

    Returns:
        What `describe_samples` returns, and "inherited", those of `inherited` with another salt.
    """
    others = [one for one in inherited if one["salt"] != salt]
    return {**describe_samples(keys, genders, ages_months, salt=salt), "inherited": others}


def list_training_sets(trained_on: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the training sets in the entry "trained_on" of a checkpoint, each with "salt" and "hashes".

    One of them is `UNRECORDED` if the checkpoint, or the one from which it started, has format 1, 2 or 3.
    """
    if trained_on is None:
        return [UNRECORDED]
    own = {name: trained_on[name] for name in ("salt", "hashes")}
    return [own, *trained_on["inherited"]]


def find_trained_on(
    contents: dict[str, Any], keys: Sequence[str], genders: NDArray[Any], ages_months: NDArray[Any]
) -> NDArray[np.bool_] | None:
    """Return for each sample whether `find_samples` finds it among the training samples of a checkpoint.

    Returns:
        bool (n,); None if none is found and the checkpoint does not record all of its training samples.
    """
    training_sets = list_training_sets(contents["trained_on"])
    recorded = [described for described in training_sets if described["hashes"] is not None]
    found = np.zeros(len(keys), bool)
    for described in recorded:
        found |= find_samples(described, keys, genders, ages_months)
    return found if found.any() or len(recorded) == len(training_sets) else None


def count_trained_on(
    contents: dict[str, Any], keys: Sequence[str], genders: NDArray[Any], ages_months: NDArray[Any]
) -> int | None:
    """Return the number of samples that `find_trained_on` finds; None if it returns None."""
    found = find_trained_on(contents, keys, genders, ages_months)
    return None if found is None else int(found.sum())


def trained_on_warning(
    contents: dict[str, Any],
    keys: Sequence[str],
    genders: NDArray[Any],
    ages_months: NDArray[Any],
    *,
    where: str = "the checkpoint",
) -> str | None:
    """Return a warning if the checkpoint was, or may have been, trained on some of the samples; otherwise None.

    Args:
        contents: the contents of the checkpoint.
        keys: the keys of n samples.
        genders: (n,), 1 male and 0 female.
        ages_months: (n,).
        where: how the text names the checkpoint.
    """
    found = find_trained_on(contents, keys, genders, ages_months)
    if found is None:
        return f"warning: {where} does not record all of its training samples; films among them cannot be recognized"
    if not found.any():
        return None
    return (
        f"warning: {found.sum():,} of the {len(keys):,} samples (the first is '{keys[int(found.argmax())]}') have the "
        f"key, gender and age of a training sample of {where}; if they are the same films, their errors say nothing "
        "about other films"
    )


def _hash_samples(
    keys: Sequence[str], genders: NDArray[Any], ages_months: NDArray[Any], *, salt: str
) -> NDArray[np.int64]:
    """Return int64 (n,). Ages are rounded to months, so that tables in months and in years agree."""
    empty = blake2b(key=bytes.fromhex(salt), digest_size=_HASH_BYTES)
    ages = np.rint(np.asarray(ages_months, np.float32)).astype(np.int64).tolist()
    digests = []
    for key, is_male, age in zip(keys, (np.asarray(genders) > 0).tolist(), ages, strict=True):
        hashed = empty.copy()
        hashed.update(f"{key}\0{'M' if is_male else 'F'}{age}".encode())
        digests.append(hashed.digest())
    return np.frombuffer(b"".join(digests), "<i8").astype(np.int64)
