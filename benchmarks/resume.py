"""Is resuming late in an epoch as fast as starting it?

Command:   python -m benchmarks.resume [--samples 1000000 10000000] [--rounds 7]
Work:      an index of N samples over one small shard (every row points at one of its 64 real samples); the time from
           loading a state to the first batch of 64, at position 0 and at 50, 95 and 99 % of an epoch.
Result:    benchmarks/results/resume.json. Resume is arithmetic: nothing is replayed or skipped over.
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
from benchmarks.rounds import print_table, print_targets, run_rounds, save_result
from benchmarks.targets import resume_targets
from wds_bone import BoneAgeStream
from wds_bone.shards.manifest import Manifest, SplitEntry, read_manifest, write_manifest
from wds_bone.shards.samples import table_as_bytes, table_from_bytes

BATCH_SIZE = 64


def widen_index(folder: Path, num_samples: int) -> None:
    """Repeat the rows of the only shard's index until it has `num_samples`."""
    manifest = read_manifest(folder / "manifest.json")
    ((split, entry),) = manifest.splits.items()
    index = folder / "bench-000000.index.npy"
    table = table_from_bytes(index.read_bytes(), index)
    rows = np.resize(table, num_samples)
    rows["key"] = np.char.zfill(np.arange(num_samples).astype("S12"), 12)
    wide = table_as_bytes(rows)
    index.write_bytes(wide)
    shard = replace(entry.shards[0], num_samples=num_samples, index_sha256=hashlib.sha256(wide).hexdigest())
    write_manifest(folder, Manifest(manifest.image, {split: SplitEntry(num_samples, entry.labels, (shard,))}))


def first_batch(stream: BoneAgeStream, position: int) -> Callable[[], float]:
    """Return a run that gives the milliseconds from loading a state to the first batch."""

    def run() -> float:
        state = stream.state_dict() | {"position": position}
        start = time.perf_counter()
        stream.load_state_dict(state)
        loop = stream.endless()
        next(loop)
        elapsed = 1000 * (time.perf_counter() - start)
        loop.close()
        return elapsed

    return run


def measure(num_samples: int, *, num_rounds: int) -> dict[str, Any]:
    """Measure an index of `num_samples`, print the table and return the figures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "set"
        films = encode_films(None, size=128, encoding="jpg")[:BATCH_SIZE]
        write_shards(folder, films, encoding="jpg", num_samples=BATCH_SIZE, num_shards=1)
        widen_index(folder, num_samples)
        index_bytes = (folder / "bench-000000.index.npy").stat().st_size / num_samples
        start = time.perf_counter()
        stream = BoneAgeStream(folder, batch_size=BATCH_SIZE, threads=2)
        opened_seconds = time.perf_counter() - start
        shares = (0, 0.5, 0.95, 0.99)
        runs = {f"at {share:.0%}": first_batch(stream, int(num_samples * share)) for share in shares}
        figures = run_rounds(runs, num_rounds=num_rounds)
        stream.close()
    print(f"index of {num_samples:,} samples opened in {opened_seconds:.2f} s")
    print_table(figures, unit="milliseconds to the first batch", reference="at 0%")
    print_targets(resume_targets(figures, opened_seconds=opened_seconds, index_bytes=index_bytes))
    return {"opened_seconds": opened_seconds, "index_bytes_per_sample": index_bytes, "milliseconds": figures}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    results = {str(num_samples): measure(num_samples, num_rounds=args.rounds) for num_samples in args.samples}
    print(save_result("resume", results))


if __name__ == "__main__":
    main()
