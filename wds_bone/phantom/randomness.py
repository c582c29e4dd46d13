"""Chance as a function of (seed, name): the only source of randomness of the phantom.

In: a hand's seed and the name of what is drawn. Out: a number, or a generator for whole fields of noise.
Invariant: a draw depends on its own seed and name alone, so switching one off leaves all others as they were.
"""

import hashlib
from statistics import NormalDist

import numpy as np


def draw_bits(seed: int, name: str) -> int:
    """Return 64 bits that are a hash of `seed` and `name`, the same in every process and version of Python."""
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def draw_uniform(seed: int, name: str, low: float = 0.0, high: float = 1.0) -> float:
    """Return a number strictly between `low` and `high`."""
    share = ((draw_bits(seed, name) >> 12) + 0.5) / 2**52
    return low + (high - low) * share


def draw_normal(seed: int, name: str, mean: float = 0.0, sd: float = 1.0) -> float:
    """Return a normally distributed number."""
    return NormalDist(mean, sd).inv_cdf(draw_uniform(seed, name))


def make_generator(seed: int, name: str) -> np.random.Generator:
    """Return a generator for fields of noise, keyed with `seed` and `name`."""
    return np.random.Generator(np.random.Philox(key=draw_bits(seed, name)))
