"""Is resuming late in an epoch as fast as starting it?

Command:   python -m benchmarks.resume [--samples 1000000 10000000] [--rounds 7]
Compared:  resuming at 0, 50, 95 and 99 % of an epoch.
Method:    N samples in shards of 10,000, all of them hard links to one real shard, with indexes that differ in the
           keys; the time from loading a state to the first batch of 64, and the time to open the stream, which checks
           every row of every index.
Machine:   two CPU cores.
Result:    benchmarks/results/resume.json. Resuming computes the position; it does not replay or skip any samples.
"""

import argparse
import hashlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.films import encode_films, write_shards
from benchmarks.rounds import add_rounds_argument, print_table, print_targets, run_rounds, save_result
from benchmarks.targets import resume_targets
from wds_bone import BoneAgeStream
from wds_bone.shards.manifest import Manifest, index_name, read_manifest, write_manifest
from wds_bone.shards.samples import table_as_bytes
from wds_bone.shards.sidecars import read_sidecar, split_entry

BATCH_SIZE = 64
SAMPLES_PER_SHARD = 10_000


def repeat_shard(folder: Path, num_shards: int) -> None:
    """Link the only shard until there are `num_shards` of them, each with an index with its own keys."""
    manifest = read_manifest(folder / "manifest.json")
    ((split, entry),) = manifest.splits.items()
    (shard,) = entry.shards
    table = read_sidecar(folder, shard)
    entries, tables = [], []
    for number in range(num_shards):
        name, rows = f"bench-{number:06d}.tar", table.copy()
        rows["key"] = np.arange(10**11 + number * len(table), 10**11 + (number + 1) * len(table)).astype("S12")
        contents = table_as_bytes(rows)
        (folder / index_name(name)).write_bytes(contents)
        if number:
            (folder / name).hardlink_to(folder / shard.name)
        entries.append(replace(shard, name=name, index_sha256=hashlib.sha256(contents).hexdigest()))
        tables.append(rows)
    write_manifest(folder, Manifest(manifest.image, {split: split_entry(entries, tables)}))


def time_to_first_batch(stream: BoneAgeStream, position: int) -> Callable[[], float]:
    """Return a function that resumes at `position` and returns the milliseconds to the first batch."""

    def run() -> float:
        state = stream.state_dict() | {"position": position}
        start = time.perf_counter()
        stream.load_state_dict(state)
        batches = stream.endless()
        next(batches)
        elapsed = 1000 * (time.perf_counter() - start)
        batches.close()
        return elapsed

    return run


def measure(num_samples: int, *, num_rounds: int) -> dict[str, Any]:
    """Measure an index of `num_samples` samples, print the tables and return the measurements."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "set"
        films = encode_films(None, size=128, encoding="jpg")[:BATCH_SIZE]
        write_shards(folder, films, encoding="jpg", num_samples=SAMPLES_PER_SHARD, num_shards=1)
        repeat_shard(folder, -(-num_samples // SAMPLES_PER_SHARD))
        index_bytes = (folder / index_name("bench-000000.tar")).stat().st_size / SAMPLES_PER_SHARD
        start = time.perf_counter()
        stream = BoneAgeStream(folder, batch_size=BATCH_SIZE, threads=2)
        opened_seconds = time.perf_counter() - start
        fractions = (0, 0.5, 0.95, 0.99)
        runs = {
            f"at {fraction:.0%}": time_to_first_batch(stream, int(num_samples * fraction)) for fraction in fractions
        }
        milliseconds = run_rounds(runs, num_rounds=num_rounds)
        stream.close()
    print(f"index of {num_samples:,} samples opened in {opened_seconds:.2f} s")
    print_table(milliseconds, unit="milliseconds to the first batch", reference="at 0%")
    print_targets(resume_targets(milliseconds, opened_seconds=opened_seconds, index_bytes=index_bytes))
    return {"opened_seconds": opened_seconds, "index_bytes_per_sample": index_bytes, "milliseconds": milliseconds}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--samples",
        type=int,
        nargs="+",
        default=[1_000_000, 10_000_000],
        metavar="N",
        help="sizes of the set in samples, rounded up to whole shards (default: 1000000 10000000)",
    )
    add_rounds_argument(parser, default=7)
    args = parser.parse_args()
    results = {str(num_samples): measure(num_samples, num_rounds=args.rounds) for num_samples in args.samples}
    print(save_result("resume", results))


if __name__ == "__main__":
    main()
