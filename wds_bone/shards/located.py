"""Describe shards by the manifest next to them, or by reading them once.

In: the locations of shards.
Out: `LocatedShard`s.
Invariant: a shard that its manifest does not list is refused. A shard without a manifest is scanned; one in object
storage is kept in the cache, if there is one, so that it is not fetched again when its samples are read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wds_bone.errors import ShardError
from wds_bone.objects.url import Url
from wds_bone.remote.opening import CacheSettings, open_cache
from wds_bone.remote.shard import RemoteShard
from wds_bone.remote.whole_shards import WholeShards
from wds_bone.shards.groups import join_groups
from wds_bone.shards.image_size import mixed_sizes_error
from wds_bone.shards.manifest import (
    MANIFEST_NAME,
    REBUILD,
    ImageFormat,
    Manifest,
    ShardEntry,
    is_unfinished,
    read_manifest,
    unfinished_error,
)
from wds_bone.shards.samples import SampleTable, add_field
from wds_bone.shards.scan import ScannedShard, scan_file, scan_shard
from wds_bone.shards.sidecars import check_label_counts, read_sidecar
from wds_bone.storage.location import Location, exists, file_bytes, for_each


@dataclass(frozen=True, eq=False)
class LocatedShard:
    """A shard and the table of its samples.

    Attributes:
        path: where it is.
        sha256: the digest of its contents.
        table: its samples.
        image: the format of its images; None for a scanned shard without samples.
        states_age_unit: whether its labels state the unit of every age.
        num_ignored: the number of its members that are neither image nor label.
        entry: its entry in the manifest; None if it was scanned.
        scanned_bytes: its size, if it was scanned.
    """

    path: Location
    sha256: str
    table: SampleTable
    image: ImageFormat | None
    states_age_unit: bool = True
    num_ignored: int = 0
    entry: ShardEntry | None = None
    scanned_bytes: int = 0

    @property
    def stored(self) -> Path | RemoteShard:
        """What `open_storage` needs to know; all images of the shard, whichever of them are selected."""
        if isinstance(self.path, Path):
            return self.path
        num_bytes = self.entry.shard_bytes if self.entry else self.scanned_bytes
        image_ends = self.table["offset"].astype(np.int64) + self.table["size"]
        return RemoteShard(self.path, self.sha256, num_bytes, image_ends)


def read_shards(paths: Sequence[Location], cache: CacheSettings | None) -> list[LocatedShard]:
    """Read the index of each shard, or scan the shard; the manifest of a folder is read once.

    Args:
        paths: the shards.
        cache: where shards in object storage that must be scanned are kept; None keeps nothing.

    Raises:
        ConfigError: if the cache cannot be used.
        ShardError: if a shard or index is missing, incomplete or damaged.
    """
    sets = {folder: _set_in(folder) for folder in dict.fromkeys(path.parent for path in paths)}
    is_scanned = any(manifest is None and isinstance(folder, Url) for folder, manifest in sets.items())
    opened = open_cache(cache) if cache and is_scanned else None
    whole = WholeShards(opened) if opened else None
    located = for_each(lambda path: _read_one(path, sets[path.parent], whole), paths)
    tables = {shard.path: shard.table for shard in located}
    for folder, manifest in sets.items():
        _check_labels(folder, manifest, tables)
    return located


def _check_labels(folder: Location, manifest: Manifest | None, tables: dict[Location, SampleTable]) -> None:
    """Compare the labels with the statistics of every split whose shards have all been read."""
    for name, split in manifest.splits.items() if manifest else ():
        paths = [folder / shard.name for shard in split.shards]
        if all(path in tables for path in paths):
            check_label_counts([tables[path] for path in paths], split, f"{folder}: split '{name}'")


def _set_in(folder: Location) -> Manifest | None:
    if exists(folder / MANIFEST_NAME):
        return read_manifest(folder / MANIFEST_NAME)
    if is_unfinished(folder):
        raise unfinished_error(folder)
    return None


def _read_one(path: Location, manifest: Manifest | None, whole: WholeShards | None) -> LocatedShard:
    if manifest is None:
        return _scan(path, whole)
    entry = manifest.shard_entries.get(path.name)
    if entry is None:
        do = "name a shard of the set, or move this one to another folder"
        raise ShardError(f"{path}: is not listed in the manifest next to it", do=do)
    if (num_bytes := _file_bytes(path)) != entry.shard_bytes:
        expected, got = f"{entry.shard_bytes:,} bytes", f"{num_bytes:,} bytes"
        raise ShardError(f"{path}: its size is not that in the manifest", expected=expected, got=got, do=REBUILD)
    return LocatedShard(path, entry.sha256, read_sidecar(path.parent, entry), manifest.image, entry=entry)


def with_groups(table: SampleTable, located: Sequence[LocatedShard]) -> SampleTable:
    """Return the table with a field `group` if the patients of any shard are known."""
    if not any(shard.entry and shard.entry.groups_sha256 for shard in located):
        return table
    groups = join_groups([(shard.path.parent, shard.entry, len(shard.table)) for shard in located])
    return add_field(table, "group", groups)


def _scan(path: Location, whole: WholeShards | None) -> LocatedShard:
    _file_bytes(path)
    shard = _scan_kept(path, whole) or scan_shard(path)
    num_ignored = sum(shard.ignored.values())
    return LocatedShard(
        path,
        shard.sha256,
        shard.table,
        _scanned_image(shard, path),
        shard.states_age_unit,
        num_ignored,
        scanned_bytes=shard.shard_bytes,
    )


def _scan_kept(path: Location, whole: WholeShards | None) -> ScannedShard | None:
    """Scan a shard in the cache, where it is kept for the stream; None if it cannot be."""
    if whole is None or not isinstance(path, Url):
        return None
    try:
        if (file := whole.open(path)) is None:
            return None
        with file:
            return scan_file(file, path)
    except OSError as error:
        raise _unreadable(path, error) from error


def _scanned_image(shard: ScannedShard, path: Location) -> ImageFormat | None:
    if not shard.image_sizes:
        return None
    if len(shard.image_sizes) != 1:
        raise mixed_sizes_error(path, shard.image_sizes)
    ((height, width),) = shard.image_sizes
    encodings = {encoding.decode() for encoding in np.unique(shard.table["encoding"])}
    return ImageFormat(encodings.pop() if len(encodings) == 1 else None, height, width)


def _file_bytes(path: Location) -> int:
    try:
        return file_bytes(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Location, error: OSError) -> ShardError:
    return ShardError(f"{path}: cannot be read: {error.strerror}", do="check the path and its permissions; " + REBUILD)
