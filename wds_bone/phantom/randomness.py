"""Random draws as a function of (seed, name): the phantom's only source of randomness.

In: a seed and the name of the quantity to draw.
Out: a number, or a generator for noise arrays.
Invariant: a draw depends only on its seed and name, so disabling one draw leaves all others unchanged.

The names are hashed: changing a name by one byte changes every image that depends on it.
"""

import hashlib
from statistics import NormalDist

import numpy as np


def draw_bits(seed: int, name: str) -> int:
    """Return a 64-bit hash of `seed` and `name`, the same in every process and Python version."""
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def draw_uniform(seed: int, name: str, low: float = 0.0, high: float = 1.0) -> float:
    """Return a uniformly distributed number strictly between `low` and `high`."""
    fraction = ((draw_bits(seed, name) >> 12) + 0.5) / 2**52
    return low + (high - low) * fraction


def draw_normal(seed: int, name: str, mean: float = 0.0, sd: float = 1.0) -> float:
    """Return a normally distributed number."""
    return NormalDist(mean, sd).inv_cdf(draw_uniform(seed, name))


def make_generator(seed: int, name: str) -> np.random.Generator:
    """Return a generator for noise arrays, keyed by `seed` and `name`."""
    return np.random.Generator(np.random.Philox(key=draw_bits(seed, name)))
