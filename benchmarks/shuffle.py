"""How well are batches mixed when the shards are sorted by age?

Command:   python -m benchmarks.shuffle [--seeds 10] [--epochs 20]
Compared:  wds_bone with several shuffle buffers and windows, computed with `Order` (tests/stream/test_stream.py checks
           that a stream delivers this order); the shards in order; random permutations by NumPy, which should score
           100; webdataset as documented (`shardshuffle=100`, `.shuffle(1000)`, batched in the workers) with 1, 4 and
           16 workers; the same, shuffled again in the loader (`.unbatched().shuffle(1000).batched(64)`).
Method:    the variance of the batch means, in percent of the variance for batches drawn at random without replacement.
           The labels are 12,611 sorted ages with RSNA's mean and deviation (127 and 41 months), in 12 shards of 1,050
           or 1,051; batches of 64, short ones left out. webdataset reads tars with a few bytes per sample; its workers
           run one after another in this process, numbered by WORKER and NUM_WORKERS. With 16 workers, 4 get no shard.
           Because reading takes time, webdataset runs a tenth of the epochs; as in a training, its order of shards is
           the same in all epochs.
Machine:   any; nothing is timed.
Result:    benchmarks/results/shuffle.json, one value per seed.
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
from wds_bone.stream.order import Order

NUM_SAMPLES, NUM_SHARDS, BATCH_SIZE = 12_611, 12, 64
BUFFERS = (64, 256, 1024, 4096)
WINDOWS = (1, 2, 4, 8)
NUM_WORKERS = (1, 4, 16)
EPOCHS_PER_WEBDATASET_EPOCH = 10
RANDOM, DEFAULT = "random permutation", "wds_bone, buffer: epoch (default)"

Ages = NDArray[np.float64]
Batches = Sequence[Sequence[float]] | Ages


def sorted_ages() -> Ages:
    """Return the ages of all samples in months, float64 (n,), in ascending order."""
    drawn = np.random.default_rng(0).normal(127, 41, NUM_SAMPLES)
    return np.sort(np.clip(np.rint(drawn), 1, 228))


def percent_of_random(batches: Batches, ages: Ages) -> float:
    """Return the mean squared distance of the batch means from the mean age, in percent of its expectation.

    The mean of B out of n values drawn without replacement has the variance s^2 / B * (n - B) / (n - 1), where s^2 is
    the mean squared distance of the n values from their mean (Cochran, "Sampling Techniques", theorem 2.2). The true
    mean is known, so no degree of freedom is lost to estimating it.
    """
    expected = ages.var() / BATCH_SIZE * (NUM_SAMPLES - BATCH_SIZE) / (NUM_SAMPLES - 1)
    means = np.array([np.mean(batch) for batch in batches if len(batch) == BATCH_SIZE])
    return float(100 * np.mean((means - ages.mean()) ** 2) / expected)


def full_batches(ages: Ages) -> Ages:
    """Return the full batches, (k, 64), of ages that are given in the order of each epoch, (epochs, n)."""
    return ages[:, : NUM_SAMPLES // BATCH_SIZE * BATCH_SIZE].reshape(-1, BATCH_SIZE)


def our_batches(ages: Ages, *, epochs: int, seed: int | None, **settings: int) -> Ages:
    """Return the batches that a stream over the shards delivers."""
    positions = np.arange(epochs * NUM_SAMPLES).reshape(epochs, NUM_SAMPLES)
    first_sample = np.cumsum([0, *map(len, np.array_split(ages, NUM_SHARDS))])
    order = Order("sorted by age", first_sample, seed, **settings)
    return full_batches(ages[order.sample_at(positions)])


def random_batches(ages: Ages, *, seed: int, epochs: int) -> Ages:
    """Return the batches of random permutations drawn by NumPy."""
    return full_batches(np.random.default_rng(seed).permuted(np.tile(ages, (epochs, 1)), axis=1))


def write_ages(folder: Path, ages: Ages) -> str:
    """Write the ages into shards in the given order, and return the brace pattern."""
    numbers = iter(range(NUM_SAMPLES))
    for shard, part in enumerate(np.array_split(ages, NUM_SHARDS)):
        with (folder / f"{shard:06d}.tar").open("wb") as file, webdataset.TarWriter(file, mtime=0) as tar:
            for age, number in zip(part, numbers, strict=False):
                tar.write({"__key__": f"{number:05d}", "age": b"%d" % age})
    return str(folder / f"{{000000..{NUM_SHARDS - 1:06d}}}.tar")


def worker_batches(url: str, *, worker: int, num_workers: int, seed: int, epoch: int) -> list[list[float]]:
    """Return the batches that one worker of webdataset sends in one epoch."""
    shards = webdataset.WebDataset(url, shardshuffle=100, empty_check=False, seed=seed)
    # Without `rng` each worker would seed its generator from the time, and the result could not be reproduced.
    samples = shards.shuffle(1000, rng=random.Random(f"{seed} {epoch} {worker}"))
    batches = samples.map(lambda sample: float(sample["age"])).listed(BATCH_SIZE)
    with patch.dict(os.environ, WORKER=str(worker), NUM_WORKERS=str(num_workers)):
        return list(batches)


def shuffle_again(workers: Sequence[list[list[float]]], *, rng: random.Random) -> list[list[float]]:
    """Return the batches after the loader takes one batch per worker in turn, shuffles the samples and batches them."""
    rounds = zip_longest(*workers, fillvalue=())
    samples = (age for batches in rounds for batch in batches for age in batch)
    return list(webdataset.filters.batched(BATCH_SIZE, None)(webdataset.filters.shuffle(1000, rng=rng)(samples)))


def our_percentages(ages: Ages, *, seed: int, epochs: int) -> dict[str, float]:
    """Return the percentages that need no files: wds_bone with each setting, random order, and the shards in order."""
    batches: dict[str, Batches] = {
        f"wds_bone, {name}: {size}": our_batches(ages, epochs=epochs, seed=seed, **{f"shuffle_{name}": size})
        for name, sizes in (("buffer", BUFFERS), ("windows", WINDOWS))
        for size in sizes
    }
    batches[DEFAULT] = our_batches(ages, epochs=epochs, seed=seed)
    batches[RANDOM] = random_batches(ages, seed=seed, epochs=epochs)
    batches["shards in order"] = our_batches(ages, epochs=1, seed=None)
    return {name: percent_of_random(part, ages) for name, part in batches.items()}


def webdataset_percentages(url: str, ages: Ages, *, num_workers: int, seed: int, epochs: int) -> dict[str, float]:
    """Return the percentages of webdataset: as batched by the workers, and shuffled again in the loader."""
    rng = random.Random(seed)
    sent: list[list[float]] = []
    reshuffled: list[list[float]] = []
    for epoch in range(epochs):
        settings = {"num_workers": num_workers, "seed": seed, "epoch": epoch}
        workers = [worker_batches(url, worker=worker, **settings) for worker in range(num_workers)]
        sent += [batch for batches in workers for batch in batches]
        reshuffled += shuffle_again(workers, rng=rng)
    name = f"webdataset, workers: {num_workers}"
    return {name: percent_of_random(sent, ages), f"{name}, mixed again": percent_of_random(reshuffled, ages)}


def collect(num_seeds: int, measure: Callable[[int], dict[str, float]]) -> dict[str, list[float]]:
    """Return the percentages of each candidate, one per seed."""
    seeds = [measure(seed) for seed in range(num_seeds)]
    return {name: [percentages[name] for percentages in seeds] for name in seeds[0]}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, metavar="N", help="number of seeds (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=20, metavar="N", help="epochs per seed (default: %(default)s)")
    args = parser.parse_args()
    ages = sorted_ages()
    webdataset_epochs = max(1, args.epochs // EPOCHS_PER_WEBDATASET_EPOCH)
    with tempfile.TemporaryDirectory() as name:
        url = write_ages(Path(name), ages)

        def measure(seed: int) -> dict[str, float]:
            percentages = our_percentages(ages, seed=seed, epochs=args.epochs)
            for num_workers in NUM_WORKERS:
                percentages |= webdataset_percentages(
                    url, ages, num_workers=num_workers, seed=seed, epochs=webdataset_epochs
                )
            return percentages

        percentages = collect(args.seeds, measure)
    print_table(percentages, unit="variance of batch means, percent of random batches", reference=RANDOM)
    ratio = statistics.median(percentages[DEFAULT]) / 100
    print_targets([Target("times the variance of random batches, 0.95 to 1.05", ratio, minimum=0.95, maximum=1.05)])
    settings = {
        **vars(args),
        "webdataset_epochs": webdataset_epochs,
        "batch_size": BATCH_SIZE,
        "num_shards": NUM_SHARDS,
    }
    print(save_result("shuffle", {"settings": settings, "percent_of_random": percentages}))


if __name__ == "__main__":
    main()
