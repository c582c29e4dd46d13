"""Write and read the sidecars of a shard: our sample table and DALI's index.

In: a scanned shard, or its manifest entry.
Out: the sidecars and the manifest entry, or the verified sample table.
Invariant: the sidecars match the tar, because `scan_shard` is their only source.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wds_bone.errors import ShardError
from wds_bone.shards.dali import dali_index
from wds_bone.shards.manifest import ShardEntry, SplitEntry, dali_name, index_name
from wds_bone.shards.samples import SampleTable, join_tables, table_as_bytes, table_from_bytes
from wds_bone.shards.scan import ScannedShard
from wds_bone.shards.statistics import label_statistics
from wds_bone.storage.durable import write_bytes_atomically
from wds_bone.storage.location import Location, read_file

_HASH_FACTOR = np.uint64(0x9E3779B97F4A7C15)
REINDEX = "write the indexes again with `wds-bone index FOLDER`"


def write_sidecars(folder: Path, shard: ScannedShard) -> ShardEntry:
    """Write the sample table and DALI's index of `shard` into `folder` and return its manifest entry."""
    for name, contents in sidecar_contents(shard).items():
        write_bytes_atomically(folder / name, contents)
    return shard_entry(shard)


def sidecar_contents(shard: ScannedShard) -> dict[str, bytes]:
    """Return the contents of the sidecars of `shard`, by file name."""
    return {index_name(shard.name): table_as_bytes(shard.table), dali_name(shard.name): dali_index(shard)}


def shard_entry(shard: ScannedShard) -> ShardEntry:
    """Return the manifest entry of `shard`."""
    index_sha256 = hashlib.sha256(table_as_bytes(shard.table)).hexdigest()
    return ShardEntry(shard.name, len(shard.table), shard.shard_bytes, shard.sha256, index_sha256)


def split_entry(
    entries: Sequence[ShardEntry],
    tables: Sequence[SampleTable],
    *,
    label_table_sha256: str | None = None,
    plan: str | None = None,
) -> SplitEntry:
    """Return the manifest entry of a split that consists of these shards."""
    table = join_tables(tables)
    return SplitEntry(len(table), label_statistics(table), tuple(entries), label_table_sha256, plan)


def read_sidecar(folder: Location, entry: ShardEntry) -> SampleTable:
    """Return the sample table of a shard from its sidecar.

    Raises:
        ShardError: if the sidecar is missing or does not match the manifest entry.
    """
    path = folder / index_name(entry.name)
    do = f"fetch the set again, or {REINDEX}"
    try:
        contents = read_file(path)
    except OSError as error:
        raise ShardError(f"{path}: cannot be read: {error.strerror}", do=do) from error
    found = hashlib.sha256(contents).hexdigest()
    if found != entry.index_sha256:
        raise ShardError(f"{path}: is damaged", expected=f"sha256 {entry.index_sha256}", got=f"sha256 {found}", do=do)
    return table_from_bytes(contents, path)


def duplicate_keys(tables: Mapping[str, SampleTable]) -> list[tuple[str, str, str]]:
    """Return (key, first name, second name) for every repetition of a key, across tables or within one."""
    if not tables or _all_hashes_differ(tables.values()):
        return []
    first_names: dict[bytes, str] = {}
    repeated = []
    for name, table in tables.items():
        for key in table["key"].tolist():
            if key in first_names:
                repeated.append((key.decode(), first_names[key], name))
            first_names.setdefault(key, name)
    return repeated


def rows_with_common_keys(one: SampleTable, other: SampleTable) -> list[tuple[Any, Any]]:
    """Return the rows of two tables that have the same key, in pairs, in the order of `one`."""
    num_words = -(-max(table.dtype["key"].itemsize for table in (one, other)) // 8)
    hashes, other_hashes = (_hash_keys(table, num_words) for table in (one, other))
    by_key = {row["key"]: row for row in other[np.isin(other_hashes, hashes)]}
    return [(row, by_key[row["key"]]) for row in one[np.isin(hashes, other_hashes)] if row["key"] in by_key]


def _all_hashes_differ(tables: Collection[SampleTable]) -> bool:
    """Return whether all keys have different hashes, so that no key can be repeated.

    A dictionary needs 100 bytes and 0.5 µs per key, ten times as much.
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
