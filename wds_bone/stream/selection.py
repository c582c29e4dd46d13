"""Find the shards that the user names, and build the table of their samples.

In: brace patterns, globs, lists, a folder or a manifest with a split.
Out: a `Selection`.
Invariant: shards with a manifest are described by their verified indexes, and shards without one are scanned once; the
same shards give the same table and the same order digest either way. A shard without samples counts as empty.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wds_bone.errors import ConfigError, ShardError
from wds_bone.labels.read import check_ages_are_in_months
from wds_bone.objects.clients import shared_transfer
from wds_bone.objects.protocol import Transfer
from wds_bone.remote.shard import RemoteShard
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
from wds_bone.shards.samples import SampleTable, add_field, join_tables
from wds_bone.shards.scan import ScannedShard, scan_shard
from wds_bone.shards.sidecars import check_label_counts, duplicate_keys, read_sidecar
from wds_bone.storage.location import Location, exists, file_bytes, for_each, identity
from wds_bone.stream.locate import find_shards
from wds_bone.stream.order import shard_of

Keep = Callable[[SampleTable], NDArray[np.bool_]]


@dataclass(frozen=True, eq=False)
class Selection:
    """The shards of one stream and the table of their samples, numbered in the order of the shards.

    Attributes:
        paths: the shards, in order.
        first_sample: int64 (shards + 1,), the number of the first sample of each shard, and the total.
        table: the rows of all shards, one after another.
        stored: what `open_storage` needs to know of each shard: its path, or the description of one in object storage.
        image: the format of the images that the stream delivers.
        order_digest: sha256 of the shards' names and contents, and of the samples that are kept.
        transfer: what was moved over the network to select them.
    """

    paths: tuple[Location, ...]
    first_sample: NDArray[np.int64]
    table: SampleTable
    stored: tuple[Path | RemoteShard, ...]
    image: ImageFormat
    order_digest: str
    transfer: Transfer = field(default_factory=Transfer)

    @property
    def num_samples(self) -> int:
        """The number of samples in all shards."""
        return len(self.table)

    @property
    def ages_months(self) -> NDArray[np.float32]:
        """float32 (num_samples,), the labels."""
        ages: NDArray[np.float32] = self.table["age_months"].copy()
        return ages

    @property
    def genders(self) -> NDArray[np.uint8]:
        """uint8 (num_samples,), 1 male, 0 female."""
        genders: NDArray[np.uint8] = (self.table["gender"] == b"M").astype(np.uint8)
        return genders

    def keys(self, samples: NDArray[np.int64] | slice = slice(None)) -> list[str]:
        """Return the keys of the samples with these numbers, or of all."""
        return [key.decode() for key in self.table["key"][samples].tolist()]

    def key_of(self, sample: int) -> str:
        """Return the key of the sample with this number."""
        key: bytes = self.table["key"][sample]
        return key.decode()

    def where(self, sample: int) -> str:
        """Return the shard and the key of a sample, for error messages."""
        shard = shard_of(np.array([sample]), self.first_sample).item()
        return f"{self.paths[shard]}: sample '{self.key_of(sample)}'"


def select_shards(
    shards: str | Path | Sequence[str | Path], *, split: str | None = None, keep: Keep | None = None
) -> Selection:
    """Return the selection that `shards` names.

    Args:
        shards: a tar, a folder, a `manifest.json`, a brace pattern, a glob, or a list of these. A path that exists
            means itself, whatever characters are in its name, and a `Path` object is never a pattern.
        split: the split of a folder or manifest; may be omitted if there is only one.
        keep: maps the table of all samples to a mask, bool (n,), of those to select; None selects all. The table also
            has the field `group`, int64, if the patients of any shard are known.

    Raises:
        ConfigError: if no shards are named, no sample is kept, or a name is not a local path.
        ShardError: if a shard or index is missing, incomplete or damaged.
    """
    before = shared_transfer()
    names = [shards] if isinstance(shards, str | Path) else list(shards)
    located = _read_shards(path for name in names or [""] for path in find_shards(name, split))
    selection = _select_all(located, names)
    if keep is not None:
        selection = _filter(selection, keep(_with_groups(selection.table, located)))
    return replace(selection, transfer=shared_transfer() - before)


def _select_all(located: Sequence["_Located"], names: Sequence[str | Path]) -> Selection:
    _check_distinct(located)
    _check_keys({str(shard.path): shard.table for shard in located})
    _check_unit(located)
    counts = [len(shard.table) for shard in located]
    if not sum(counts):
        problem = f"{', '.join(map(str, names))}: the shards contain no samples"
        raise ShardError(problem, expected="at least one", got=_ignored_text(located), do=REBUILD)
    image = _common_image([shard.image for shard in located if shard.image is not None])
    return Selection(
        paths=tuple(shard.path for shard in located),
        first_sample=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        table=join_tables([shard.table for shard in located]),
        stored=tuple(shard.stored for shard in located),
        image=image,
        order_digest=_order_digest(located),
    )


def _filter(selection: Selection, kept: NDArray[np.bool_]) -> Selection:
    """Return the samples of a selection for which `kept` is true, with a new order digest."""
    if not kept.any():
        raise ConfigError("no sample is selected", expected="at least one", got="none", do="choose fewer folds")
    num_before = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)
    digest = hashlib.sha256(selection.order_digest.encode() + np.packbits(kept).tobytes())
    return replace(
        selection,
        first_sample=num_before[selection.first_sample],
        table=selection.table[kept],
        order_digest=digest.hexdigest(),
    )


@dataclass(frozen=True, eq=False)
class _Located:
    path: Location
    sha256: str
    table: SampleTable
    image: ImageFormat | None  # None for a scanned shard without samples
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


def _read_shards(paths: Iterable[Location]) -> list[_Located]:
    """Read the index of each shard, or scan the shard; the manifest of a folder is read once."""
    paths = list(paths)
    sets = {folder: _set_in(folder) for folder in dict.fromkeys(path.parent for path in paths)}
    located = for_each(lambda path: _read_one(path, sets[path.parent]), paths)
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


def _check_keys(tables: dict[str, SampleTable]) -> None:
    """Refuse a key that occurs in two shards."""
    if repeated := duplicate_keys(tables):
        key, first, second = repeated[0]
        raise ShardError(
            f"{second}: sample '{key}' is also in {first}",
            expected="each key once",
            got=f"{len(repeated)} repeated keys",
            do="leave one of the shards out, or rewrite them with different keys",
        )


def _set_in(folder: Location) -> Manifest | None:
    if exists(folder / MANIFEST_NAME):
        return read_manifest(folder / MANIFEST_NAME)
    if is_unfinished(folder):
        raise unfinished_error(folder)
    return None


def _read_one(path: Location, manifest: Manifest | None) -> _Located:
    if manifest is None:
        return _scan(path)
    entry = manifest.shard_entries.get(path.name)
    if entry is None:
        do = "name a shard of the set, or move this one to another folder"
        raise ShardError(f"{path}: is not listed in the manifest next to it", do=do)
    if (num_bytes := _file_bytes(path)) != entry.shard_bytes:
        expected, got = f"{entry.shard_bytes:,} bytes", f"{num_bytes:,} bytes"
        raise ShardError(f"{path}: its size is not that in the manifest", expected=expected, got=got, do=REBUILD)
    return _Located(path, entry.sha256, read_sidecar(path.parent, entry), manifest.image, entry=entry)


def _with_groups(table: SampleTable, located: Sequence[_Located]) -> SampleTable:
    """Return the table with a field `group` if the patients of any shard are known."""
    if not any(shard.entry and shard.entry.groups_sha256 for shard in located):
        return table
    groups = join_groups([(shard.path.parent, shard.entry, len(shard.table)) for shard in located])
    return add_field(table, "group", groups)


def _scan(path: Location) -> _Located:
    _file_bytes(path)
    shard = scan_shard(path)
    num_ignored = sum(shard.ignored.values())
    return _Located(
        path,
        shard.sha256,
        shard.table,
        _scanned_image(shard, path),
        shard.states_age_unit,
        num_ignored,
        scanned_bytes=shard.shard_bytes,
    )


def _scanned_image(shard: ScannedShard, path: Location) -> ImageFormat | None:
    if not shard.image_sizes:
        return None
    if len(shard.image_sizes) != 1:
        raise mixed_sizes_error(path, shard.image_sizes)
    ((height, width),) = shard.image_sizes
    encodings = {encoding.decode() for encoding in np.unique(shard.table["encoding"])}
    return ImageFormat(encodings.pop() if len(encodings) == 1 else None, height, width)


def _ignored_text(located: Sequence[_Located]) -> str:
    num_ignored = sum(shard.num_ignored for shard in located)
    return f"none, and {num_ignored:,} members that are neither image nor label" if num_ignored else "none"


def _common_image(images: Sequence[ImageFormat]) -> ImageFormat:
    """Return the format of all shards, which must agree except in encoding and quality."""
    sizes = {(image.height, image.width) for image in images}
    if len(sizes) != 1:
        raise mixed_sizes_error("the shards", sizes)
    options = {(image.fit, image.stretch) for image in images}
    if len(options) != 1:
        shown = " and ".join(sorted(f"fit {fit}, stretch {stretch}" for fit, stretch in options))
        do = "rewrite them with the same options, or use only shards made with the same options"
        raise ShardError("the shards were made with different options", expected="the same", got=shown, do=do)
    same_encoding = len({image.encoding for image in images}) == 1
    return images[0] if same_encoding else replace(images[0], encoding=None)


def _check_unit(located: Sequence[_Located]) -> None:
    """Refuse ages that look like years, in scanned shards whose labels do not state the unit."""
    unstated = [shard for shard in located if not shard.states_age_unit]
    if unstated:
        check_ages_are_in_months(
            [age for shard in unstated for age in shard.table["age_months"].tolist()], str(unstated[0].path)
        )


def _check_distinct(located: Sequence[_Located]) -> None:
    """Refuse a shard that is named twice."""
    seen: set[str] = set()
    for name in (identity(shard.path) for shard in located):
        if name in seen:
            raise ConfigError(f"{name}: is named twice", expected="each shard once", got="twice", do="name it once")
        seen.add(name)


def _order_digest(located: Sequence[_Located]) -> str:
    lines = "".join(f"{shard.path.name} {shard.sha256}\n" for shard in located)
    return hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()  # any name that a file can have


def _file_bytes(path: Location) -> int:
    try:
        return file_bytes(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Location, error: OSError) -> ShardError:
    return ShardError(f"{path}: cannot be read: {error.strerror}", do="check the path and its permissions; " + REBUILD)
