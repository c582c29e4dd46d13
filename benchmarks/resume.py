"""Is resuming late in an epoch as fast as starting it?

Command:   python -m benchmarks.resume [--samples 1000000 10000000] [--rounds 7]
Compared:  resuming at 0, 50, 95 and 99 % of an epoch.
Method:    an index of N samples over one small shard, each row pointing to one of its 64 real samples; the time from
           loading a state to the first batch of 64.
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
from wds_bone.shards.manifest import Manifest, SplitEntry, read_manifest, write_manifest
from wds_bone.shards.samples import table_as_bytes, table_from_bytes

BATCH_SIZE = 64


def extend_index(folder: Path, num_samples: int) -> None:
    """Repeat the rows of the only shard's index until it has `num_samples` rows."""
    manifest = read_manifest(folder / "manifest.json")
    ((split, entry),) = manifest.splits.items()
    index = folder / "bench-000000.index.npy"
    table = table_from_bytes(index.read_bytes(), index)
    rows = np.resize(table, num_samples)
    rows["key"] = np.char.zfill(np.arange(num_samples).astype("S12"), 12)
    extended = table_as_bytes(rows)
    index.write_bytes(extended)
    shard = replace(entry.shards[0], num_samples=num_samples, index_sha256=hashlib.sha256(extended).hexdigest())
    write_manifest(folder, Manifest(manifest.image, {split: SplitEntry(num_samples, entry.labels, (shard,))}))


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
        write_shards(folder, films, encoding="jpg", num_samples=BATCH_SIZE, num_shards=1)
        extend_index(folder, num_samples)
        index_bytes = (folder / "bench-000000.index.npy").stat().st_size / num_samples
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
        help="sizes of the index in samples (default: 1000000 10000000)",
    )
    add_rounds_argument(parser, default=7)
    args = parser.parse_args()
    results = {str(num_samples): measure(num_samples, num_rounds=args.rounds) for num_samples in args.samples}
    print(save_result("resume", results))


if __name__ == "__main__":
    main()
