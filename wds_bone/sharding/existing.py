"""Compare a plan with the splits that its folder already contains.

In: a plan, and the manifest of the folder if it has one.
Out: the splits that must be written.
Invariant: nothing is replaced unless the user asked for it, no key is in two splits, and all splits of a set have the
same image format.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from functools import partial

from wds_bone.errors import ShardError
from wds_bone.sharding.plan import SetPlan, SplitPlan, describe_difference, shift_groups
from wds_bone.shards.groups import read_groups
from wds_bone.shards.manifest import (
    DALI_SUFFIX,
    INDEX_SUFFIX,
    ImageFormat,
    Manifest,
    ShardEntry,
    SplitEntry,
    groups_name,
    index_name,
    sidecar_names,
)
from wds_bone.shards.sidecars import REINDEX, read_sidecars
from wds_bone.storage.durable import read_parsed
from wds_bone.storage.folders import file_sizes
from wds_bone.storage.location import Location, for_each


def select_pending(plan: SetPlan, base: Manifest | None, out: Location, *, replace: bool) -> SetPlan:
    """Return the part of `plan` that must be written; it may have no splits.

    Args:
        plan: the splits that the set should have.
        base: the manifest of the existing set.
        out: the folder of the set.
        replace: return all splits, whether they exist or not.

    Raises:
        ShardError: if a split of the plan exists but is different or incomplete, or if another split shares a key with
            the plan or has a different image format.
    """
    existing, sizes = (base.splits, file_sizes(out)) if base else ({}, {})
    splits = [
        split for split in plan.splits if replace or not _is_complete(split, existing.get(split.name), out, sizes)
    ]
    for split in splits:
        if base is not None and split.name in existing and not replace:
            raise _mismatch_error(out, split, plan, base)
    pending = dataclasses.replace(plan, splits=tuple(splits))
    if base is None or not splits:
        return pending
    written = {split.name for split in splits}
    kept = {name: entry for name, entry in base.splits.items() if name not in written}
    _check_other_splits(pending, kept, base.image, out)
    return shift_groups(pending, _first_free_group(kept, out))


def _is_complete(split: SplitPlan, entry: SplitEntry | None, out: Location, sizes: Mapping[str, int]) -> bool:
    return entry is not None and entry.plan == split.digest and not _invalid_files(entry, out, sizes)


def _invalid_files(entry: SplitEntry, out: Location, sizes: Mapping[str, int]) -> list[Location]:
    """Return the files of a split that are missing, given the sizes of those that exist, or do not match the manifest.

    Sidecars are read, many at once from object storage; of a tar, only the size is compared.
    """
    checks = {out / name: check for shard in entry.shards for name, check in _checks(shard, sizes).items()}
    are_valid = for_each(lambda path: path.name in sizes and checks[path](path), [*checks])
    return [path for path, is_valid in zip(checks, are_valid, strict=True) if not is_valid]


def _checks(shard: ShardEntry, sizes: Mapping[str, int]) -> dict[str, Callable[[Location], bool]]:
    """Return, for the name of each file of a shard, whether a file that exists matches the manifest."""
    digests = {index_name(shard.name): shard.index_sha256, groups_name(shard.name): shard.groups_sha256}

    def is_valid(name: str, contents: bytes) -> bool:
        if name in digests:
            return hashlib.sha256(contents).hexdigest() == digests[name]
        return contents.count(b"\n") == shard.num_samples + 1 and contents.endswith(b"\n")

    def has_valid_contents(path: Location) -> bool:
        return read_parsed(path, partial(is_valid, path.name), do=REINDEX)

    sidecars = dict.fromkeys(sidecar_names(shard), has_valid_contents)
    return {shard.name: lambda _: sizes[shard.name] == shard.shard_bytes, **sidecars}


def _incomplete_error(out: Location, split: SplitPlan, entry: SplitEntry) -> ShardError:
    invalid = _invalid_files(entry, out, file_sizes(out))
    num_files = sum(1 + len(sidecar_names(shard)) for shard in entry.shards)
    are_indexes_only = all(path.name.endswith((INDEX_SUFFIX, DALI_SUFFIX)) for path in invalid)
    remedy = REINDEX if are_indexes_only else "fetch the files again"
    more = f" (and {len(invalid) - 1} more)" if len(invalid) > 1 else ""
    return ShardError(
        f"{invalid[0]}: missing, or does not match the manifest{more}",
        expected=f"{num_files} intact files of split '{split.name}'",
        got=f"{num_files - len(invalid)}",
        do=f"{remedy}, or write the split again with --replace",
    )


def _mismatch_error(out: Location, split: SplitPlan, plan: SetPlan, base: Manifest) -> ShardError:
    entry = base.splits[split.name]
    if entry.plan == split.digest:
        return _incomplete_error(out, split, entry)
    num_grouped = sum(shard.groups_sha256 is not None for shard in entry.shards)
    names = "num_samples", "num_shards", "patient_groups"
    old = vars(base.image) | dict(zip(names, (entry.num_samples, len(entry.shards), num_grouped > 0), strict=True))
    new = vars(plan.image) | dict(zip(names, (split.num_samples, len(split.shards), split.has_groups), strict=True))
    expected, got = describe_difference(new, old)
    return ShardError(
        f"{out}: already has a split '{split.name}' that was made from different inputs or settings",
        expected=expected or f"the labels, films, seed and split of plan {str(entry.plan)[:12]}",
        got=got or f"different ones (plan {split.digest[:12]})",
        do="write to another folder with --out, or replace the split with --replace",
    )


def _first_free_group(kept: Mapping[str, SplitEntry], out: Location) -> int:
    """Return the first number after all patient groups of the kept splits."""
    shards = [shard for entry in kept.values() for shard in entry.shards if shard.groups_sha256 is not None]
    return max((int(groups.max()) + 1 for shard in shards if len(groups := read_groups(out, shard))), default=0)


def _check_other_splits(pending: SetPlan, kept: Mapping[str, SplitEntry], image: ImageFormat, out: Location) -> None:
    """Refuse a plan that shares keys with the kept splits or has a different image format than their `image`."""
    if kept and image != pending.image:
        expected, got = describe_difference(vars(pending.image), vars(image))
        raise ShardError(
            f"{out}: its other splits ({', '.join(kept)}) have a different image format",
            expected=expected,
            got=got,
            do="use the same settings, or write to another folder with --out",
        )
    for name, entry in kept.items():
        keys = {key.decode() for table in read_sidecars(out, entry.shards) for key in table["key"].tolist()}
        _refuse_shared_keys(pending, keys, out, name)


def _refuse_shared_keys(pending: SetPlan, keys: set[str], out: Location, other: str) -> None:
    for split in pending.splits:
        planned = [source.label.key for shard in split.shards for source in shard.sources]
        if shared := [key for key in planned if key in keys]:
            raise ShardError(
                f"{out}: sample '{shared[0]}' would be in two splits, '{other}' and '{split.name}'",
                expected="every sample in exactly one split, so that no training sample leaks into validation",
                got=f"{len(shared):,} in both",
                do="remove them from the label table, or write to another folder with --out",
            )
