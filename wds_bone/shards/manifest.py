"""Read and write the manifest of a set of shards.

In: a `Manifest`, or the `manifest.json` of a set.
Out: `manifest.json`, or a `Manifest`.
Invariant: the file is the canonical text of its contents and their sha256, so that every change is detected.

The manifest is written last, so a set that has one is complete. A foreign set is one that another tool wrote.
"""

import dataclasses
import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from wds_bone.errors import ShardError
from wds_bone.shards.fields import check_groups, check_image, check_splits
from wds_bone.storage.durable import write_bytes_atomically
from wds_bone.storage.location import MANIFEST_NAME as MANIFEST_NAME  # by other rooms, too
from wds_bone.storage.location import Location, exists, read_verified

STAGING_NAME = ".building"
"""Folder for the parts of an unfinished set; readers refuse a set that has it but no manifest."""
PLAN_NAME = "plan.json"
"""File in that folder with what the set will be."""
LOCK_NAME = "make_shards.lock"
"""File that `wds-bone make-shards` creates before anything else, and leaves in the set."""
REBUILD = "fetch the shards again, or rebuild them with `wds-bone make-shards`"
"""What to do about damaged shards."""
FORMAT_VERSION = 1
INDEX_SUFFIX = ".index.npy"
DALI_SUFFIX = ".idx"
GROUPS_SUFFIX = ".groups.npy"
SHARD_SUFFIXES = (".tar", INDEX_SUFFIX, DALI_SUFFIX, GROUPS_SUFFIX)
"""The suffixes of a shard and of the files next to it."""
_REMEDY = "fetch the set again, rebuild it with `wds-bone make-shards`, or index existing shards with `wds-bone index`"

_MAX_SHOWN = 200

Encoding = Literal["jpg", "png", "npy"]


@dataclass(frozen=True)
class ImageFormat:
    """How the images of a set are stored.

    Attributes:
        encoding: encoding of the image members; None if a foreign set mixes encodings.
        height, width: size in pixels of the images that the stream delivers.
        quality: JPEG quality, or None.
        fit: `letterbox` if the writer letterboxed the films, `letterbox at reading` if the reader letterboxes a foreign
            set of mixed sizes, None if unknown.
        stretch: the percentiles that the writer mapped to black and white, or None.
    """

    encoding: Encoding | None
    height: int
    width: int
    quality: int | None = None
    fit: Literal["letterbox", "letterbox at reading"] | None = None
    stretch: tuple[float, float] | None = None

    @property
    def is_letterboxed_on_read(self) -> bool:
        """Whether the reader letterboxes images of other sizes."""
        return self.fit == "letterbox at reading"


@dataclass(frozen=True)
class ShardEntry:
    """One shard in the manifest; digests cover whole files, and `groups_sha256` is None without patient groups."""

    name: str
    num_samples: int
    shard_bytes: int
    sha256: str
    index_sha256: str
    groups_sha256: str | None = None


@dataclass(frozen=True)
class SplitEntry:
    """One split in the manifest.

    Attributes:
        num_samples: number of samples in all shards.
        labels: the result of `label_statistics`.
        shards: the shards in reading order.
        label_table_sha256: digest of the label table; None for foreign and synthetic sets.
        plan: digest of everything that determines the bytes of the split; None for foreign sets.
    """

    num_samples: int
    labels: dict[str, Any]
    shards: tuple[ShardEntry, ...]
    label_table_sha256: str | None = None
    plan: str | None = None


@dataclass(frozen=True)
class Manifest:
    """A set of shards: one image format and named splits."""

    image: ImageFormat
    splits: dict[str, SplitEntry]

    @cached_property
    def shard_entries(self) -> dict[str, ShardEntry]:
        """The shards of all splits, by name."""
        return {shard.name: shard for split in self.splits.values() for shard in split.shards}


def is_unfinished(folder: Location) -> bool:
    """Return whether a folder holds an unfinished set, or is the folder for its parts."""
    return not exists(folder / MANIFEST_NAME) and (folder.name == STAGING_NAME or has_parts(folder))


def has_parts(folder: Location) -> bool:
    """Return whether a folder has parts of an unfinished set; below a prefix, the plan is written before them."""
    parts = folder / STAGING_NAME
    return exists(parts if isinstance(parts, Path) else parts / PLAN_NAME)


def unfinished_error(folder: Location) -> ShardError:
    """Return the error for a folder with parts of an unfinished set."""
    return ShardError(
        f"{folder}: not finished: contains an unfinished run of `wds-bone make-shards`",
        expected=MANIFEST_NAME,
        got=f"{STAGING_NAME}, which holds parts of the set" if has_parts(folder) else "a set without it",
        do="run the same `wds-bone make-shards` command again to finish it",
    )


def read_manifest(path: Location) -> Manifest:
    """Read and check `manifest.json`.

    Raises:
        ShardError: if the file is missing, has another version, was changed or is not a manifest.
    """
    try:
        return read_verified(path, lambda text: manifest_from_bytes(text, str(path)))
    except OSError as error:
        if is_unfinished(path.parent):
            raise unfinished_error(path.parent) from error
        raise ShardError(f"{path}: cannot be read: {error.strerror}", do=_REMEDY) from error


def manifest_from_bytes(text: bytes, where: str) -> Manifest:
    """Return the manifest in `text`; `where` is its path or URL, for error messages.

    Raises:
        ShardError: if the text has another version, was changed or is not a manifest.
    """
    do = f"fetch the set again; or delete {where}, then run `wds-bone index` on its folder"
    try:
        contents = json.loads(text)
        version = contents["version"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ShardError(f"{where}: not a wds_bone manifest", expected="JSON", got=error, do=do) from error
    if contents.get("format") != "wds_bone" or type(version) is not int or version != FORMAT_VERSION:
        found = f"{contents.get('format')!r}, version {version!r}"[:_MAX_SHOWN]
        raise ShardError(
            f"{where}: unsupported format or version",
            expected=f"'wds_bone', version {FORMAT_VERSION}",
            got=found,
            do=do,
        )
    try:
        _check_digest(text, contents, where, do)
        return _parse(contents)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ShardError(f"{where}: not a complete manifest", got=repr(error), do=do) from error
    except ShardError:
        raise
    except ValueError as error:
        raise ShardError(f"{where}: not a complete manifest", got=error, do=do) from error


def _check_digest(text: bytes, contents: dict[str, Any], where: str, do: str) -> None:
    recorded = contents.pop("sha256", None)
    if recorded != (found := _digest(contents)) or text != _canonical(contents | {"sha256": recorded}):
        raise ShardError(
            f"{where}: changed since it was written",
            expected=f"sha256 {str(recorded)[:_MAX_SHOWN]}",
            got=f"sha256 {found}" + " in other text" * (recorded == found),
            do=do,
        )


def write_manifest(folder: Location, manifest: Manifest) -> Location:
    """Write `manifest.json` into `folder` atomically and return its path."""
    path = folder / MANIFEST_NAME
    write_bytes_atomically(path, manifest_as_bytes(manifest))
    return path


def manifest_as_bytes(manifest: Manifest) -> bytes:
    """Return the canonical text of `manifest`."""
    splits = {name: dataclasses.asdict(split) for name, split in manifest.splits.items()}
    # Versions up to 0.2.0 refuse unknown names in the entries of shards, and ignore them here.
    shards = [shard for split in splits.values() for shard in split["shards"]]
    groups = {shard["name"]: digest for shard in shards if (digest := shard.pop("groups_sha256"))}
    contents = {
        "format": "wds_bone",
        "version": FORMAT_VERSION,
        "image": dataclasses.asdict(manifest.image),
        "splits": splits,
    } | ({"groups": groups} if groups else {})
    return _canonical(contents | {"sha256": _digest(contents)})


def index_name(shard_name: str) -> str:
    """Return the name of a shard's sample table, for example `train-000000.index.npy`."""
    return shard_name.removesuffix(".tar") + INDEX_SUFFIX


def dali_name(shard_name: str) -> str:
    """Return the name of a shard's DALI index, for example `train-000000.idx`."""
    return shard_name.removesuffix(".tar") + DALI_SUFFIX


def groups_name(shard_name: str) -> str:
    """Return the name of a shard's patient groups, for example `train-000000.groups.npy`."""
    return shard_name.removesuffix(".tar") + GROUPS_SUFFIX


def sidecar_names(entry: ShardEntry) -> tuple[str, ...]:
    """Return the names of the files next to a shard that belong to it."""
    groups = () if entry.groups_sha256 is None else (groups_name(entry.name),)
    return (index_name(entry.name), dali_name(entry.name), *groups)


def _canonical(contents: dict[str, Any]) -> bytes:
    return (json.dumps(contents, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def _digest(contents: dict[str, Any]) -> str:
    return hashlib.sha256(_canonical(contents)).hexdigest()


def _parse(contents: dict[str, Any]) -> Manifest:
    groups = dict(contents.get("groups", {}))
    if contents.keys() - {"groups"} != {"format", "version", "image", "splits"}:
        raise ValueError("expected the fields format, version, image, splits, sha256")
    check_image(contents["image"])
    check_splits(contents["splits"])
    check_groups(groups)
    splits = {name: _parse_split(split, groups) for name, split in contents["splits"].items()}
    if groups:
        raise ValueError(f"groups of unknown shards: {', '.join(map(repr, groups))}")
    manifest = Manifest(_parse_image(contents["image"]), splits)
    names = Counter(shard.name for split in manifest.splits.values() for shard in split.shards)
    if twice := [name for name, count in names.items() if count > 1]:
        raise ValueError(f"the shard {twice[0]!r} is listed twice")
    return manifest


def _parse_image(image: dict[str, Any]) -> ImageFormat:
    return ImageFormat(**image | {"stretch": image["stretch"] and tuple(image["stretch"])})


def _parse_split(split: dict[str, Any], groups: dict[str, str]) -> SplitEntry:
    """Return the entry of a split, and take the digests of its shards out of `groups`."""
    shards = tuple(ShardEntry(**shard, groups_sha256=groups.pop(shard["name"], None)) for shard in split["shards"])
    return SplitEntry(**split | {"shards": shards})
