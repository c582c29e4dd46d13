"""Build the manifest of shards that another tool wrote.

In: scanned shards of one folder.
Out: their `Manifest`.
Invariant: for our own shards, digests and label statistics equal those of the manifest that was written with them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from wds_bone.errors import ShardError
from wds_bone.labels.read import check_ages_are_in_months
from wds_bone.shards.fields import MAX_NAME_BYTES, is_shard_name
from wds_bone.shards.image_size import mixed_sizes_error
from wds_bone.shards.manifest import ImageFormat, Manifest, ShardEntry, SplitEntry
from wds_bone.shards.samples import SampleTable
from wds_bone.shards.scan import ScannedShard
from wds_bone.shards.sidecars import duplicate_keys, shard_entry, sidecar_contents, split_entry

_SUFFIX = re.compile(
    r"""(?P<split>.*?)(?:
        [-_.]?\d+[-_.]of[-_.]\d+                            # -00000-of-00004
      | [-_.]?[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}  # a UUID
      | (?:[-_.][0-9a-f]{8,}|[0-9a-f]{16,})                # random hexadecimal digits
      | [-_.=\ ]*(?:\d+|\(\d+\)|\[\d+\]|\{\d+\})           # -000012, =0, (1)
    )""",
    re.ASCII | re.IGNORECASE | re.VERBOSE,
)
DEFAULT_SPLIT = "all"


@dataclass(frozen=True, eq=False)
class DescribedShard:
    """What the manifest needs to know about a shard, without its members: tens of bytes per sample."""

    entry: ShardEntry
    table: SampleTable
    sidecars: dict[str, bytes]
    image_sizes: frozenset[tuple[int, int]]
    states_age_unit: bool
    ignored: Mapping[str, int]


def describe_shard(shard: ScannedShard) -> DescribedShard:
    """Return the manifest entry and the sidecars of `shard`."""
    found = shard_entry(shard), shard.table, sidecar_contents(shard)
    return DescribedShard(*found, shard.image_sizes, shard.states_age_unit, shard.ignored)


def refuse_names(names: Iterable[str], where: str) -> None:
    """Refuse shards that no manifest may list because of their names.

    Raises:
        ShardError: for the first such name.
    """
    for name in names:
        if not is_shard_name(name):
            raise ShardError(
                f"{where}: a set cannot contain a shard named {name!r}",
                expected=f"at most {MAX_NAME_BYTES} printable bytes that end in .tar and do not begin with a dot",
                got=repr(name),
                do="rename the file, or move it to another folder",
            )


def describe_set(shards: Sequence[DescribedShard], *, letterbox: int | None, where: str) -> Manifest:
    """Return the manifest of `shards`.

    Args:
        shards: the shards in reading order.
        letterbox: height and width in pixels to letterbox images to when they are read; None refuses mixed sizes.
        where: location of the shards, for error messages.

    Raises:
        ShardError: if sizes are mixed, a split has no samples or a key is repeated.
        LabelError: if ages without a stated unit look like years.
    """
    if duplicates := duplicate_keys({shard.entry.name: shard.table for shard in shards}):
        key, first, second = duplicates[0]
        raise ShardError(
            f"{where}: sample '{key}' is in {first} and in {second}",
            expected="each key once",
            got=f"duplicate keys: {len(duplicates):,}",
            do="leave out duplicate shards, or rewrite the shards with unique keys",
        )
    check_ages_are_in_months(
        [age for shard in shards if not shard.states_age_unit for age in shard.table["age_months"]], where
    )
    parts: dict[str, list[DescribedShard]] = {}
    for shard in shards:
        parts.setdefault(split_name(shard.entry.name), []).append(shard)
    splits = {name: _split(name, part, where) for name, part in parts.items()}
    return Manifest(_image_format(shards, letterbox, where), splits)


def split_name(shard_name: str) -> str:
    """Return the split that a shard belongs to: its name without `.tar` and without a number or a random suffix.

    `train` for train-000012.tar, train-00000-of-00004.tar, train_12.tar, train.tar and `train_<UUID>.tar`; `rsna-val`
    for rsna-val.tar and rsna-val-3.tar; `all` for 000012.tar.
    """
    stem = shard_name.removesuffix(".tar")
    numbered = _SUFFIX.fullmatch(stem)
    return (numbered["split"] if numbered else stem) or DEFAULT_SPLIT


def describes_same_shards(manifest: Manifest, original: Manifest) -> bool:
    """Return whether both manifests describe the same shards.

    Only `original` records where they came from, and their groups.
    """
    bare = {name: _without_origin(split) for name, split in original.splits.items()}
    sizes = {(image.height, image.width) for image in (manifest.image, original.image)}
    return bare == manifest.splits and len(sizes) == 1


def _without_origin(split: SplitEntry) -> SplitEntry:
    shards = tuple(replace(shard, groups_sha256=None) for shard in split.shards)
    return replace(split, shards=shards, plan=None, label_table_sha256=None)


def _split(name: str, shards: Sequence[DescribedShard], where: str) -> SplitEntry:
    tables = [shard.table for shard in shards]
    if not sum(map(len, tables)):
        raise ShardError(
            f"{where}: the split '{name}' has no samples", expected="at least one", do="rewrite its shards"
        )
    return split_entry([shard.entry for shard in shards], tables)


def _image_format(shards: Sequence[DescribedShard], letterbox: int | None, where: str) -> ImageFormat:
    encodings = {encoding.decode() for shard in shards for encoding in set(shard.table["encoding"].tolist())}
    encoding = encodings.pop() if len(encodings) == 1 else None
    if letterbox is not None:
        return ImageFormat(encoding, letterbox, letterbox, fit="letterbox at reading")
    sizes = frozenset[tuple[int, int]]().union(*(shard.image_sizes for shard in shards))
    if len(sizes) > 1:
        raise mixed_sizes_error(where, sizes)
    ((height, width),) = sizes
    return ImageFormat(encoding, height, width)
