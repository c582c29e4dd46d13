"""Resolve what the user names (URLs, a folder, a manifest) into shards and the table of their samples.

In: brace patterns, globs, lists, a folder or a manifest with a split. Out: a `Selection`. Invariant: shards with a
manifest are known from their verified sidecars; shards without one are scanned once; either way the same shards give
the same table and the same order digest.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wds_bone.errors import ConfigError, ShardError
from wds_bone.shards.manifest import (
    MANIFEST_NAME,
    STAGING_NAME,
    ImageFormat,
    Manifest,
    ShardEntry,
    read_manifest,
)
from wds_bone.shards.samples import SampleTable, join_tables
from wds_bone.shards.scan import ScannedShard, scan_shard
from wds_bone.shards.sidecars import read_sidecar, repeated_keys
from wds_bone.stream.locate import expand, local_path

REBUILD = "fetch the set again, or build it again with `python scripts/make_shards.py`"


@dataclass(frozen=True, eq=False)
class Selection:
    """The shards of one stream.

    Attributes:
        paths: of the shards, in order.
        first_sample: int64 (shards + 1,), number of the first sample of each shard, and their total.
        table: the rows of all shards, one after another.
        image: the format of what the stream delivers.
        order_digest: sha256 over the shards' names and contents.
    """

    paths: tuple[Path, ...]
    first_sample: NDArray[np.int64]
    table: SampleTable
    image: ImageFormat
    order_digest: str


def select_shards(shards: str | Path | Sequence[str | Path], *, split: str | None = None) -> Selection:
    """Return the selection that `shards` names.

    Args:
        shards: a brace pattern, a glob, a tar, a list of these, a folder, or a `manifest.json`.
        split: which split of a folder or manifest; may be left out where there is only one.

    Raises:
        ConfigError: nothing is named, or something that is not a local path.
        ShardError: a shard or index is missing, incomplete or damaged.
    """
    names = [shards] if isinstance(shards, str | Path) else list(shards)
    located = [shard for name in names for shard in _locate(str(name), split)]
    if not located:
        raise ConfigError(
            f"no shard in {names}", expected="at least one .tar", got="none", do="check the path of the shards"
        )
    _check_distinct(located)
    image = _common_image([shard.image for shard in located])
    counts = [len(shard.table) for shard in located]
    if not sum(counts):
        raise ShardError(f"{names}: the shards are empty", expected="at least one sample", got="none", do=REBUILD)
    return Selection(
        paths=tuple(shard.path for shard in located),
        first_sample=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        table=join_tables([shard.table for shard in located]),
        image=image,
        order_digest=_order_digest(located),
    )


@dataclass(frozen=True, eq=False)
class _Located:
    path: Path
    sha256: str
    table: SampleTable
    image: ImageFormat


def _locate(name: str, split: str | None) -> list[_Located]:
    path = local_path(name)
    if path.is_dir():
        return _read_folder(path, split)
    if path.name == MANIFEST_NAME:
        return _read_split(path, split)
    if split is not None:
        raise ConfigError(
            f"{name}: a split can be chosen from a folder or a manifest only",
            got=f"split {split!r}",
            do="name one of these",
        )
    return _read_files(expand(name))


def _read_folder(folder: Path, split: str | None) -> list[_Located]:
    if (folder / MANIFEST_NAME).exists():
        return _read_split(folder / MANIFEST_NAME, split)
    return _read_files(sorted(folder.glob(f"{split}-*.tar" if split else "*.tar")))


def _read_split(manifest_path: Path, split: str | None) -> list[_Located]:
    manifest = read_manifest(manifest_path)
    if split is None and len(manifest.splits) == 1:
        (split,) = manifest.splits
    if split not in manifest.splits:
        known = ", ".join(manifest.splits)
        raise ConfigError(f"{manifest_path}: which split?", expected=f"one of {known}", got=split, do="name a split")
    entries = manifest.splits[split].shards
    return [_read_indexed(manifest_path.parent / entry.name, entry, manifest.image) for entry in entries]


def _read_files(paths: Iterable[Path]) -> list[_Located]:
    manifests: dict[Path, Manifest | None] = {}
    located = []
    for path in paths:
        if path.parent not in manifests:
            manifests[path.parent] = _manifest_of(path.parent)
        located.append(_read_one(path, manifests[path.parent]))
    _check_keys({str(shard.path): shard.table for shard in located if manifests[shard.path.parent] is None})
    return located


def _check_keys(scanned: dict[str, SampleTable]) -> None:
    """Refuse a key that stands in two shards; sets with a manifest were checked when it was written."""
    if repeated := repeated_keys(scanned):
        key, first, second = repeated[0]
        raise ShardError(
            f"{second}: sample '{key}' is in {first} too",
            expected="each key once",
            got=f"{len(repeated)} keys more than once",
            do="leave one of the shards out, or write them again with other keys",
        )


def _manifest_of(folder: Path) -> Manifest | None:
    if (folder / MANIFEST_NAME).exists():
        return read_manifest(folder / MANIFEST_NAME)
    if (folder / STAGING_NAME).exists():
        raise ShardError(
            f"{folder}: make_shards has not finished here",
            expected=MANIFEST_NAME,
            got=STAGING_NAME,
            do="run the same make_shards again",
        )
    return None


def _read_one(path: Path, manifest: Manifest | None) -> _Located:
    if manifest is None:
        return _scan(path)
    for split in manifest.splits.values():
        for entry in split.shards:
            if entry.name == path.name:
                return _read_indexed(path, entry, manifest.image)
    raise ShardError(f"{path}: not in the manifest beside it", do="name a shard of the set, or move this one elsewhere")


def _read_indexed(path: Path, entry: ShardEntry, image: ImageFormat) -> _Located:
    if _file_bytes(path) != entry.shard_bytes:
        expected, got = f"{entry.shard_bytes:,} bytes", f"{_file_bytes(path):,} bytes"
        raise ShardError(f"{path}: not the shard of the manifest", expected=expected, got=got, do=REBUILD)
    return _Located(path, entry.sha256, read_sidecar(path.parent, entry), image)


def _scan(path: Path) -> _Located:
    _file_bytes(path)
    shard = scan_shard(path)
    return _Located(path, shard.sha256, shard.table, _scanned_image(shard, path))


def _scanned_image(shard: ScannedShard, path: Path) -> ImageFormat:
    if len(shard.image_sizes) != 1:
        raise _mixed_sizes(path, shard.image_sizes)
    ((height, width),) = shard.image_sizes
    encodings = {encoding.decode() for encoding in np.unique(shard.table["encoding"])}
    return ImageFormat(encodings.pop() if len(encodings) == 1 else None, height, width)


def _common_image(images: Sequence[ImageFormat]) -> ImageFormat:
    """Return the format of all shards; JPEG quality, fit and stretch are remarks, the size is what must agree."""
    sizes = {(image.height, image.width) for image in images}
    if len(sizes) != 1:
        raise _mixed_sizes("the shards", sizes)
    same_encoding = len({image.encoding for image in images}) == 1
    return images[0] if same_encoding else replace(images[0], encoding=None)


def _mixed_sizes(place: Path | str, sizes: Iterable[tuple[int, int]]) -> ShardError:
    found = sorted(sizes)
    shown = ", ".join(f"{height} x {width}" for height, width in found[:4]) + (", ..." if len(found) > 4 else "")
    return ShardError(
        f"{place}: images of {len(found)} sizes",
        expected="one size",
        got=shown or "no image",
        do="write an index that letterboxes them: `python -m wds_bone.index --letterbox SIZE FOLDER`",
    )


def _check_distinct(located: Sequence[_Located]) -> None:
    seen: set[Path] = set()
    for path in (shard.path.resolve() for shard in located):
        if path in seen:
            raise ConfigError(f"{path}: named twice", expected="each shard once", got="twice", do="name it once")
        seen.add(path)


def _order_digest(located: Sequence[_Located]) -> str:
    lines = "".join(f"{shard.path.name} {shard.sha256}\n" for shard in located)
    return hashlib.sha256(lines.encode()).hexdigest()


def _file_bytes(path: Path) -> int:
    try:
        with path.open("rb"):
            return path.stat().st_size
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> ShardError:
    return ShardError(f"{path}: cannot be read: {error.strerror}", do="check the path and its permissions; " + REBUILD)
