"""Tiny sets whose pixels encode the label, so that a test can check that image and label belong together."""

import hashlib
from pathlib import Path

import numpy as np
import webdataset
from numpy.typing import NDArray

from wds_bone.shards.dali import dali_index
from wds_bone.shards.encoding import encode_image
from wds_bone.shards.groups import adopt_groups, groups_as_bytes
from wds_bone.shards.manifest import (
    MANIFEST_NAME,
    ImageFormat,
    Manifest,
    ShardEntry,
    SplitEntry,
    dali_name,
    groups_name,
    index_name,
    read_manifest,
    write_manifest,
)
from wds_bone.shards.samples import join_tables, table_as_bytes
from wds_bone.shards.scan import scan_shard
from wds_bone.shards.statistics import label_statistics


def age_of(number: int) -> int:
    """Return the age in months of sample `number`: 1 to 228, all different for the first 227."""
    return 1 + number * 37 % 227


def image_of(number: int, size: int) -> NDArray[np.uint8]:
    """Return a (size, size) image: its gray value is the age, and one corner is bright for boys, dark for girls.

    The last rows are a step wedge, because a film with a narrow range of gray levels is refused.
    """
    image = np.full((size, size), age_of(number), np.uint8)
    image[-(size // 8) :] = np.linspace(20, 235, size)
    image[: size // 4, : size // 4] = 250 if number % 2 else 5
    return image


def write_shard(path: Path, numbers: range, *, size: int = 16, encoding: str = "png") -> None:
    """Write one shard with the samples `numbers`; odd numbers are boys."""
    with path.open("wb") as file, webdataset.TarWriter(file, mtime=0) as tar:
        for number in numbers:
            label = {"age_months": age_of(number), "gender": "FM"[number % 2]}
            image = encode_image(image_of(number, size), encoding)
            tar.write({"__key__": f"hand-{number}", "json": label, encoding: image})


def write_split(
    folder: Path, split: str, counts: list[int], *, first: int = 0, size: int = 16, encoding: str = "png"
) -> SplitEntry:
    """Write shards of `counts` samples each, with their indexes, and return the split's entry for the manifest."""
    entries, tables = [], []
    for shard, count in enumerate(counts):
        path = folder / f"{split}-{shard:06d}.tar"
        write_shard(path, range(first, first + count), size=size, encoding=encoding)
        first += count
        scanned = scan_shard(path)
        index = table_as_bytes(scanned.table)
        (folder / index_name(path.name)).write_bytes(index)
        (folder / dali_name(path.name)).write_bytes(dali_index(scanned))
        digests = scanned.sha256, _sha256(index)
        entries.append(ShardEntry(path.name, count, scanned.shard_bytes, *digests))
        tables.append(scanned.table)
    return SplitEntry(sum(counts), label_statistics(join_tables(tables)), tuple(entries))


def write_set(folder: Path, *, first: int = 0, size: int = 16, encoding: str = "png", **counts: list[int]) -> Path:
    """Write a whole set, e.g. `write_set(folder, train=[5, 4], val=[3])`, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    splits = {}
    for split, sizes in counts.items():
        splits[split] = write_split(folder, split, sizes, first=first, size=size, encoding=encoding)
        first += sum(sizes)
    write_manifest(folder, Manifest(ImageFormat(encoding, size, size), splits))  # type: ignore[arg-type]
    return folder


def write_groups(folder: Path, **splits: list[list[int]]) -> Manifest:
    """Write the groups of each shard of each split, and list them in the manifest."""
    for split, shards in splits.items():
        for number, groups in enumerate(shards):
            path = folder / groups_name(f"{split}-{number:06d}.tar")
            path.write_bytes(groups_as_bytes(np.array(groups, np.uint32)))
    manifest = adopt_groups(folder, read_manifest(folder / MANIFEST_NAME))
    write_manifest(folder, manifest)
    return manifest


def _sha256(contents: bytes) -> str:
    return hashlib.sha256(contents).hexdigest()
