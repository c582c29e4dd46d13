"""wds_bone: two threads, every crc32 checked, shuffled over the whole epoch."""

import json
from pathlib import Path

import webdataset

from benchmarks.loaders import BATCH_SIZE, CORES, Epochs
from benchmarks.samples import read_samples
from wds_bone import BoneAgeStream
from wds_bone.index import main as write_index

NUM_SHARDS = 8


def prepare(samples: Path, folder: Path) -> None:
    """Write tar shards with indexes; webdataset and DALI read the same shards."""
    folder.mkdir(parents=True)
    entries = list(read_samples(samples))
    per_shard = -(-len(entries) // NUM_SHARDS)
    for shard in range(NUM_SHARDS):
        with (folder / f"bench-{shard:06d}.tar").open("wb") as file, webdataset.TarWriter(file, mtime=0) as tar:
            for sample in entries[shard * per_shard : (shard + 1) * per_shard]:
                label = json.dumps({"gender": "FM"[int(sample.gender)], "age_months": sample.age_months}).encode()
                tar.write(
                    {"__key__": sample.path.stem, sample.path.suffix[1:]: sample.path.read_bytes(), "json": label}
                )
    if write_index([str(folder)]) != 0:
        raise SystemExit(f"{folder}: the index was not written")


def open_epochs(samples: Path, folder: Path, *, size: int, encoding: str) -> Epochs:
    """Return a function that yields one epoch of the stream."""
    return open_remote(str(folder), None)


def open_remote(source: str, cache: str | None) -> Epochs:
    """Return a function that yields one epoch of the stream over shards anywhere."""
    stream = BoneAgeStream(source, batch_size=BATCH_SIZE, threads=CORES, cache=cache)
    return lambda: ((batch.image, batch.gender, batch.age_months) for batch in stream)
