"""Describe shards that others wrote, as our writer describes its own.

In: scanned shards of one folder. Out: their `Manifest`. Invariant: for our own shards it names the same digests and the
same label statistics as the manifest that was written with them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from wds_bone.errors import ShardError
from wds_bone.labels.read import refuse_years
from wds_bone.shards.image_size import mixed_sizes
from wds_bone.shards.manifest import ImageFormat, Manifest, ShardEntry, SplitEntry
from wds_bone.shards.samples import SampleTable
from wds_bone.shards.scan import ScannedShard
from wds_bone.shards.sidecars import repeated_keys, shard_entry, sidecar_contents, split_entry

_NUMBERED = re.compile(r"(.+?)-\d+")
_LETTERS = re.compile(r"[A-Za-z]+")
UNNAMED_SPLIT = "all"


@dataclass(frozen=True, eq=False)
class DescribedShard:
    """What a shard says of itself, without the places of its members: tens of bytes per sample."""

    entry: ShardEntry
    table: SampleTable
    sidecars: dict[str, bytes]
    image_sizes: frozenset[tuple[int, int]]
    unit_is_stated: bool


def describe_shard(shard: ScannedShard) -> DescribedShard:
    """Return what the manifest and the sidecars will say of `shard`."""
    found = shard_entry(shard), shard.table, sidecar_contents(shard)
    return DescribedShard(*found, shard.image_sizes, shard.unit_is_stated)


def describe_set(shards: Sequence[DescribedShard], *, letterbox: int | None, where: str) -> Manifest:
    """Return the manifest of `shards`.

    Args:
        shards: in the order of reading.
        letterbox: the height and width that images of any size are letterboxed to at reading; None refuses mixed sizes.
        where: of the shards, for messages.

    Raises:
        ShardError: mixed sizes, no sample, or a key twice.
        LabelError: ages of no stated unit that look like years.
    """
    if again := repeated_keys({shard.entry.name: shard.table for shard in shards}):
        key, first, second = again[0]
        raise ShardError(
            f"{where}: sample '{key}' is in {first} and in {second}",
            expected="every key once",
            got=f"{len(again):,} keys that occur again",
            do="name only one of two copies of a shard, or write the shards again",
        )
    refuse_years([age for shard in shards if not shard.unit_is_stated for age in shard.table["age_months"]], where)
    parts: dict[str, list[DescribedShard]] = {}
    for shard in shards:
        parts.setdefault(split_name(shard.entry.name), []).append(shard)
    splits = {name: _split(name, part, where) for name, part in parts.items()}
    return Manifest(_image_format(shards, letterbox, where), splits)


def split_name(shard_name: str) -> str:
    """Return the split a shard belongs to: `train` for train-000012.tar, train_12.tar and train.tar."""
    stem = shard_name.removesuffix(".tar")
    if numbered := _NUMBERED.fullmatch(stem):
        return numbered[1]
    letters = _LETTERS.match(stem)
    return letters[0] if letters else UNNAMED_SPLIT


def is_same_set(manifest: Manifest, made: Manifest) -> bool:
    """Return whether `manifest` says of the shards what `made`, which knows more of their origin, says of them."""
    bare = {name: replace(split, plan=None, label_table_sha256=None) for name, split in made.splits.items()}
    sizes = {(m.image.height, m.image.width) for m in (manifest, made)}
    return bare == manifest.splits and len(sizes) == 1


def _split(name: str, shards: Sequence[DescribedShard], where: str) -> SplitEntry:
    tables = [shard.table for shard in shards]
    if not sum(map(len, tables)):
        raise ShardError(f"{where}: the split '{name}' has no sample", expected="at least one", do="write it again")
    return split_entry([shard.entry for shard in shards], tables)


def _image_format(shards: Sequence[DescribedShard], letterbox: int | None, where: str) -> ImageFormat:
    encodings = {encoding.decode() for shard in shards for encoding in set(shard.table["encoding"].tolist())}
    encoding = encodings.pop() if len(encodings) == 1 else None
    if letterbox is not None:
        return ImageFormat(encoding, letterbox, letterbox, fit="letterbox at reading")
    sizes = set().union(*(shard.image_sizes for shard in shards))
    if len(sizes) > 1:
        raise mixed_sizes(where, sizes)
    ((height, width),) = sizes
    return ImageFormat(encoding, height, width)
