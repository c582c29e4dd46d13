"""Permute numbers with a key, each one without the others.

In: numbers below a length, and keys.
Out: other numbers below that length.
Invariant: equal keys give a permutation, the same one for every version of NumPy, without a sort and without state.

The permutation is a Feistel network with cycle walking (Black and Rogaway, "Ciphers with arbitrary finite domains",
2002). Its round function is the 64-bit finalizer of MurmurHash3.
"""

import numpy as np
from numpy.typing import NDArray

NUM_ROUNDS = 8
MIN_HALF_BITS = 3  # with 2, permutations of fewer than 7 numbers are measurably not uniform
_MIX_1, _MIX_2, _SHIFT = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53), np.uint64(33)

Numbers = NDArray[np.int64]


def permute(numbers: Numbers, length: Numbers | int, keys: NDArray[np.uint64]) -> Numbers:
    """Apply a keyed permutation of 0 .. length - 1 to each number.

    Args:
        numbers: int64 (n,).
        length: int64 (n,), the length for each number, or one for all.
        keys: uint64 (NUM_ROUNDS, n), the keys for each number, or (NUM_ROUNDS, 1) for all.
    """
    length, keys = np.broadcast_to(length, numbers.shape), np.broadcast_to(keys, (NUM_ROUNDS, *numbers.shape))
    half_bits = np.maximum((_bit_length(length - 1) + 1) // 2, MIN_HALF_BITS).astype(np.uint64)
    values = _feistel(numbers.astype(np.uint64), half_bits, keys)
    limit = length.astype(np.uint64)
    while (outside := np.flatnonzero(values >= limit)).size:
        values[outside] = _feistel(values[outside], half_bits[outside], keys[:, outside])
    return values.astype(np.int64)


def _feistel(values: NDArray[np.uint64], half_bits: NDArray[np.uint64], keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    mask = (np.uint64(1) << half_bits) - np.uint64(1)
    left, right = values >> half_bits, values & mask
    for round_keys in keys:
        left, right = right, left ^ (_mix(right + round_keys) & mask)
    return (left << half_bits) | right


def _mix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    words = (words ^ (words >> _SHIFT)) * _MIX_1
    words = (words ^ (words >> _SHIFT)) * _MIX_2
    return words ^ (words >> _SHIFT)


def _bit_length(numbers: Numbers) -> Numbers:
    return np.frexp(numbers.astype(np.float64))[1].astype(np.int64)
