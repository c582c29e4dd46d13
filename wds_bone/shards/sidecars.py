"""What lies beside a shard: our sample table and DALI's index, written from one scan, read back by the manifest's word.

In: a scanned shard. Out: two files and the shard's entry of the manifest. Invariant: they say what the tar says,
because nothing but `scan_shard` is their source.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wds_bone.errors import ShardError
from wds_bone.shards.dali import dali_index
from wds_bone.shards.manifest import ShardEntry, SplitEntry, dali_name, index_name
from wds_bone.shards.samples import SampleTable, join_tables, table_as_bytes, table_from_bytes
from wds_bone.shards.scan import ScannedShard
from wds_bone.shards.statistics import label_statistics
from wds_bone.storage.durable import publish_bytes

_HASH_FACTOR = np.uint64(0x9E3779B97F4A7C15)
REINDEX = "write it again with `python -m wds_bone.index` on the folder"


def write_sidecars(folder: Path, shard: ScannedShard) -> ShardEntry:
    """Write the sample table and DALI's index of `shard` into `folder` and return its entry of the manifest."""
    for name, contents in sidecar_contents(shard).items():
        publish_bytes(folder / name, contents)
    return shard_entry(shard)


def sidecar_contents(shard: ScannedShard) -> dict[str, bytes]:
    """Return the contents of the files beside `shard`, by name."""
    return {index_name(shard.name): table_as_bytes(shard.table), dali_name(shard.name): dali_index(shard)}


def shard_entry(shard: ScannedShard) -> ShardEntry:
    """Return what the manifest says of `shard`."""
    index_sha256 = hashlib.sha256(table_as_bytes(shard.table)).hexdigest()
    return ShardEntry(shard.name, len(shard.table), shard.shard_bytes, shard.sha256, index_sha256)


def split_entry(
    entries: Sequence[ShardEntry],
    tables: Sequence[SampleTable],
    *,
    label_table_sha256: str | None = None,
    plan: str | None = None,
) -> SplitEntry:
    """Return what the manifest says of a split that consists of these shards."""
    table = join_tables(tables)
    return SplitEntry(len(table), label_statistics(table), tuple(entries), label_table_sha256, plan)


def read_sidecar(folder: Path, entry: ShardEntry) -> SampleTable:
    """Return the sample table beside a shard.

    Raises:
        ShardError: it is missing, or is not the one that the manifest names.
    """
    path = folder / index_name(entry.name)
    do = f"fetch the set again, or {REINDEX}"
    try:
        contents = path.read_bytes()
    except OSError as error:
        raise ShardError(f"{path}: cannot be read: {error.strerror}", do=do) from error
    found = hashlib.sha256(contents).hexdigest()
    if found != entry.index_sha256:
        raise ShardError(f"{path}: is damaged", expected=f"sha256 {entry.index_sha256}", got=f"sha256 {found}", do=do)
    return table_from_bytes(contents, path)


def repeated_keys(tables: Mapping[str, SampleTable]) -> list[tuple[str, str, str]]:
    """Return (key, name, name) for every key that stands in two of the named tables, or twice in one."""
    if not tables or _hash_differently(tables.values()):
        return []
    owners: dict[bytes, str] = {}
    repeated = []
    for name, table in tables.items():
        for key in table["key"].tolist():
            if key in owners:
                repeated.append((key.decode(), owners[key], name))
            owners.setdefault(key, name)
    return repeated


def _hash_differently(tables: Collection[SampleTable]) -> bool:
    """Return whether all keys have different hashes, so that none can be repeated.

    Asking a dictionary takes a hundred bytes and half a microsecond a key, ten times as much.
    """
    num_words = -(-max(table.dtype["key"].itemsize for table in tables) // 8)
    hashes = np.sort(np.concatenate([_hash_keys(table, num_words) for table in tables]))
    return not np.any(hashes[1:] == hashes[:-1])


def _hash_keys(table: SampleTable, num_words: int) -> NDArray[np.uint64]:
    words = table["key"].astype(f"S{8 * num_words}").view("<u8").reshape(-1, num_words)
    hashes = words[:, 0].copy()
    for column in range(1, num_words):
        hashes = hashes * _HASH_FACTOR + words[:, column]
    return hashes
