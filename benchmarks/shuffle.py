"""How well are batches mixed when the shards are sorted by age?

Command:   python -m benchmarks.shuffle [--seeds 10] [--epochs 20]
Entrants:  wds_bone at several shuffle buffers, straight from `sample_at`: that a stream hands out this order is what
           tests/stream/test_stream.py holds; the shards in order; random permutations by NumPy, which must come to 100;
           webdataset as documented (`shardshuffle=100`, `.shuffle(1000)`, batched in the workers) with 1, 4 and 16
           workers; and the same mixed once more in the loader (`.unbatched().shuffle(1000).batched(64)`).
Work:      12,611 ages like RSNA's (mean 127, SD 41 months), sorted, in 12 shards of 1,050 or 1,051; batches of 64,
           short ones left out. webdataset reads tars of a few bytes a sample, its workers one after the other in this
           process, told their numbers by WORKER and NUM_WORKERS. Of 16 workers 4 find no shard. Reading takes time,
           so webdataset runs a tenth of the epochs; as in a training, its order of shards is the same in all of them.
Figure:    the variance of the batch means, in percent of that of batches drawn at random without replacement.
Result:    benchmarks/results/shuffle.json, a figure per seed.
"""

import argparse
import os
import random
import statistics
import tempfile
from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path
from unittest.mock import patch

import numpy as np
import webdataset
from numpy.typing import NDArray

from benchmarks.rounds import print_table, print_targets, save_result
from benchmarks.targets import Target
from wds_bone.stream.order import order_key, sample_at

NUM_SAMPLES, NUM_SHARDS, BATCH_SIZE = 12_611, 12, 64
BUFFERS = (64, 256, 1024, 4096)
NUM_WORKERS = (1, 4, 16)
WEBDATASET_EPOCHS_SHARE = 10
RANDOM, DEFAULT = "random permutation", "wds_bone, buffer: epoch (default)"

Ages = NDArray[np.float64]
Batches = Sequence[Sequence[float]] | Ages


def sorted_ages() -> Ages:
    """Return the ages in months of all samples, float64 (n,), rising."""
    drawn = np.random.default_rng(0).normal(127, 41, NUM_SAMPLES)
    return np.sort(np.clip(np.rint(drawn), 1, 228))


def percent_of_random(batches: Batches, ages: Ages) -> float:
    """Return the mean squared distance of the batch means from the mean age, in percent of its expectation.

    The mean of B out of n values drawn without replacement has the variance s^2 / B * (n - B) / (n - 1), where s^2 is
    the mean squared distance of the n values from their mean (Cochran, "Sampling Techniques", theorem 2.2). The mean
    is known, so nothing is estimated that would cost a degree of freedom.
    """
    expected = ages.var() / BATCH_SIZE * (NUM_SAMPLES - BATCH_SIZE) / (NUM_SAMPLES - 1)
    means = np.array([np.mean(batch) for batch in batches if len(batch) == BATCH_SIZE])
    return float(100 * np.mean((means - ages.mean()) ** 2) / expected)


def cut_epochs(ages: Ages) -> Ages:
    """Return the full batches, (k, 64), of ages in the order of epochs, (epochs, n)."""
    return ages[:, : NUM_SAMPLES // BATCH_SIZE * BATCH_SIZE].reshape(-1, BATCH_SIZE)


def our_batches(ages: Ages, *, key: bytes | None, buffer: int | None, epochs: int) -> Ages:
    """Return the batches of a stream over the shards."""
    positions = np.arange(epochs * NUM_SAMPLES).reshape(epochs, NUM_SAMPLES)
    return cut_epochs(ages[sample_at(positions, NUM_SAMPLES, key=key, buffer=buffer)])


def random_batches(ages: Ages, *, seed: int, epochs: int) -> Ages:
    """Return the batches of permutations that NumPy draws."""
    return cut_epochs(np.random.default_rng(seed).permuted(np.tile(ages, (epochs, 1)), axis=1))


def write_ages(folder: Path, ages: Ages) -> str:
    """Write the ages into shards, in their order, and return the brace pattern."""
    numbers = iter(range(NUM_SAMPLES))
    for shard, part in enumerate(np.array_split(ages, NUM_SHARDS)):
        with (folder / f"{shard:06d}.tar").open("wb") as file, webdataset.TarWriter(file, mtime=0) as tar:
            for age, number in zip(part, numbers, strict=False):
                tar.write({"__key__": f"{number:05d}", "age": b"%d" % age})
    return str(folder / f"{{000000..{NUM_SHARDS - 1:06d}}}.tar")


def worker_batches(url: str, *, worker: int, num_workers: int, seed: int, epoch: int) -> list[list[float]]:
    """Return the batches that one worker of webdataset sends in one epoch."""
    shards = webdataset.WebDataset(url, shardshuffle=100, empty_check=False, seed=seed)
    # Without a random generator each worker seeds its own with the time, which nobody could repeat.
    samples = shards.shuffle(1000, rng=random.Random(f"{seed} {epoch} {worker}"))
    batches = samples.map(lambda sample: float(sample["age"])).listed(BATCH_SIZE)
    with patch.dict(os.environ, WORKER=str(worker), NUM_WORKERS=str(num_workers)):
        return list(batches)


def mix_again(workers: Sequence[list[list[float]]], *, rng: random.Random) -> list[list[float]]:
    """Return the batches after the loader took one of each worker in turn, shuffled the samples and batched them."""
    turns = zip_longest(*workers, fillvalue=())
    samples = (age for turn in turns for batch in turn for age in batch)
    return list(webdataset.filters.batched(BATCH_SIZE, None)(webdataset.filters.shuffle(1000, rng=rng)(samples)))


def our_figures(ages: Ages, *, seed: int, epochs: int) -> dict[str, float]:
    """Return the figures of what needs no shard: wds_bone at each buffer, and the two ends of the scale."""
    key = order_key("sorted by age", seed)
    batches: dict[str, Batches] = {
        f"wds_bone, buffer: {buffer}": our_batches(ages, key=key, buffer=buffer, epochs=epochs) for buffer in BUFFERS
    }
    batches[DEFAULT] = our_batches(ages, key=key, buffer=None, epochs=epochs)
    batches[RANDOM] = random_batches(ages, seed=seed, epochs=epochs)
    batches["shards in order"] = our_batches(ages, key=None, buffer=None, epochs=1)
    return {name: percent_of_random(part, ages) for name, part in batches.items()}


def webdataset_figures(url: str, ages: Ages, *, num_workers: int, seed: int, epochs: int) -> dict[str, float]:
    """Return the figures of webdataset: as the workers batch, and mixed again in the loader."""
    rng = random.Random(seed)
    sent: list[list[float]] = []
    mixed: list[list[float]] = []
    for epoch in range(epochs):
        settings = {"num_workers": num_workers, "seed": seed, "epoch": epoch}
        workers = [worker_batches(url, worker=worker, **settings) for worker in range(num_workers)]
        sent += [batch for batches in workers for batch in batches]
        mixed += mix_again(workers, rng=rng)
    name = f"webdataset, workers: {num_workers}"
    return {name: percent_of_random(sent, ages), f"{name}, mixed again": percent_of_random(mixed, ages)}


def collect(num_seeds: int, figures_of: Callable[[int], dict[str, float]]) -> dict[str, list[float]]:
    """Return the figures of each entrant, seed by seed."""
    seeds = [figures_of(seed) for seed in range(num_seeds)]
    return {name: [figures[name] for figures in seeds] for name in seeds[0]}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=20)
    args = parser.parse_args()
    ages = sorted_ages()
    few_epochs = max(1, args.epochs // WEBDATASET_EPOCHS_SHARE)
    with tempfile.TemporaryDirectory() as name:
        url = write_ages(Path(name), ages)

        def figures_of(seed: int) -> dict[str, float]:
            figures = our_figures(ages, seed=seed, epochs=args.epochs)
            for num_workers in NUM_WORKERS:
                figures |= webdataset_figures(url, ages, num_workers=num_workers, seed=seed, epochs=few_epochs)
            return figures

        figures = collect(args.seeds, figures_of)
    print_table(figures, unit="variance of batch means, percent of random batches", reference=RANDOM)
    ratio = statistics.median(figures[DEFAULT]) / 100
    print_targets([Target("times the variance of random batches, 0.95 to 1.05", ratio, least=0.95, most=1.05)])
    settings = {**vars(args), "webdataset_epochs": few_epochs, "batch_size": BATCH_SIZE, "num_shards": NUM_SHARDS}
    print(save_result("shuffle", {"settings": settings, "percent_of_random": figures}))


if __name__ == "__main__":
    main()
