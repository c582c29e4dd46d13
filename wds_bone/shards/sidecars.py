"""Write and read the sidecars of a shard: our sample table, DALI's index and, optionally, the patient groups.

In: a scanned shard, or its manifest entry.
Out: the sidecars and the manifest entry, or the verified sample table.
Invariant: the indexes match the tar, because `scan_shard` is their only source.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wds_bone.errors import ShardError
from wds_bone.shards.dali import dali_index
from wds_bone.shards.groups import Groups, groups_as_bytes
from wds_bone.shards.manifest import ShardEntry, SplitEntry, dali_name, groups_name, index_name
from wds_bone.shards.rows import check_rows
from wds_bone.shards.samples import SampleTable, join_tables, table_as_bytes, table_from_bytes
from wds_bone.shards.scan import ScannedShard
from wds_bone.shards.statistics import label_statistics
from wds_bone.storage.durable import write_bytes_atomically
from wds_bone.storage.location import Location, for_each, read_verified

_HASH_FACTOR = np.uint64(0x9E3779B97F4A7C15)
REINDEX = "write the indexes again with `wds-bone index FOLDER`"
_FETCH = f"fetch the set again, or {REINDEX}"


def write_sidecars(folder: Location, shard: ScannedShard, *, groups: Groups | None = None) -> ShardEntry:
    """Write the sample table, DALI's index and the groups of `shard` into `folder` and return its manifest entry."""
    files, entry = sidecar_contents(shard), shard_entry(shard)
    if groups is not None:
        contents = files[groups_name(shard.name)] = groups_as_bytes(groups)
        entry = replace(entry, groups_sha256=hashlib.sha256(contents).hexdigest())
    for name, contents in files.items():
        write_bytes_atomically(folder / name, contents)
    return entry


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
        ShardError: if the sidecar is missing, does not match the manifest entry, or has a row that cannot be right.
    """
    path = folder / index_name(entry.name)
    try:
        return read_verified(path, lambda contents: _parse(contents, entry, path))
    except OSError as error:
        raise ShardError(f"{path}: cannot be read: {error.strerror}", do=_FETCH) from error


def _parse(contents: bytes, entry: ShardEntry, path: Location) -> SampleTable:
    do = _FETCH
    found = hashlib.sha256(contents).hexdigest()
    if found != entry.index_sha256:
        raise ShardError(f"{path}: is damaged", expected=f"sha256 {entry.index_sha256}", got=f"sha256 {found}", do=do)
    table = table_from_bytes(contents, path)
    if len(table) != entry.num_samples:
        expected, got = f"{entry.num_samples:,} rows, as in the manifest", f"{len(table):,}"
        raise ShardError(f"{path}: samples are missing or added", expected=expected, got=got, do=do)
    check_rows(table, path, shard_bytes=entry.shard_bytes, do=do)
    return table


def read_sidecars(folder: Location, entries: Sequence[ShardEntry]) -> list[SampleTable]:
    """Return the sample tables of shards, as `read_sidecar` does, many at once from object storage."""
    by_path = {folder / index_name(entry.name): entry for entry in entries}
    return for_each(lambda path: read_sidecar(folder, by_path[path]), [*by_path])


def check_label_counts(tables: Sequence[SampleTable], split: SplitEntry, where: str) -> None:
    """Refuse the tables of a split if they disagree with its label statistics in what is quick to compute.

    Raises:
        ShardError: if the number of boys or girls, or the lowest or highest age, is another one.
    """
    genders = {gender: sum(int((table["gender"] == gender.encode()).sum()) for table in tables) for gender in "FM"}
    ages = [table["age_months"] for table in tables if len(table)]
    found = genders | {"min": float(min(map(np.min, ages))), "max": float(max(map(np.max, ages)))}
    stated = split.labels["genders"] | {name: split.labels["age_months"][name] for name in ("min", "max")}
    if found != stated:
        problem = f"{where}: the labels are not those of the manifest"
        raise ShardError(problem, expected=stated, got=found, do=_FETCH)


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
