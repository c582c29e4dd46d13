"""Estimate how far the mean of a sample may be from the mean of its population, by the bootstrap.

In: one value for each sample, such as its absolute error.
Out: a 95 % interval of the mean.
Invariant: seeded, so the same values give the same interval with the same NumPy; memory does not grow with the number
of resamples.
"""

import numpy as np
from numpy.typing import NDArray

NUM_RESAMPLES = 2000
LEVEL = 0.95
_NUM_CHUNK_VALUES = 2**18
"""The values that are drawn at once: 4 MiB with their indices, which fits into the caches."""


def bootstrap_interval(values: NDArray[np.floating], *, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile interval of the mean of `values`, (n,) (Efron, Annals of Statistics 1979).

    For the difference of two means over the same samples, pass the differences: samples are then drawn in pairs.
    """
    low, high = np.quantile(resampled_means(values, seed=seed), [(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0])
    return float(low), float(high)


def resampled_means(values: NDArray[np.floating], *, seed: int = 0) -> NDArray[np.float64]:
    """Return the means of 2,000 samples drawn from `values`, (n,), with replacement, each of size n."""
    values, generator = np.asarray(values, np.float64), np.random.Generator(np.random.PCG64(seed))
    num_rows = max(1, _NUM_CHUNK_VALUES // len(values))
    starts = range(0, NUM_RESAMPLES, num_rows)
    shapes = ((min(num_rows, NUM_RESAMPLES - start), len(values)) for start in starts)
    return np.concatenate([values[generator.integers(len(values), size=shape)].mean(1) for shape in shapes])
