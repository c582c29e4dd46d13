"""Compare a plan with the splits that its folder already contains.

In: a plan, and the manifest of the folder if it has one.
Out: the splits that must be written.
Invariant: nothing is replaced unless the user asked for it, no key is in two splits, and all splits of a set have the
same image format.
"""

import dataclasses
import hashlib
from pathlib import Path

from wds_bone.errors import ShardError
from wds_bone.sharding.plan import SetPlan, SplitPlan, describe_difference
from wds_bone.shards.manifest import Manifest, ShardEntry, SplitEntry, dali_name, index_name
from wds_bone.shards.sidecars import REINDEX, read_sidecar
from wds_bone.storage.durable import read_parsed


def select_pending(plan: SetPlan, base: Manifest | None, out: Path, *, replace: bool) -> SetPlan:
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
    existing = base.splits if base else {}
    splits = [split for split in plan.splits if replace or not _is_complete(split, existing.get(split.name), out)]
    for split in splits:
        if base is not None and split.name in existing and not replace:
            raise _mismatch_error(out, split, plan, base)
    pending = dataclasses.replace(plan, splits=tuple(splits))
    if base is not None and splits:
        _check_other_splits(pending, base, out)
    return pending


def _is_complete(split: SplitPlan, entry: SplitEntry | None, out: Path) -> bool:
    return entry is not None and entry.plan == split.digest and not _invalid_files(entry, out)


def _invalid_files(entry: SplitEntry, out: Path) -> list[Path]:
    return [path for shard in entry.shards for path in (*_invalid_tar(shard, out), *_invalid_sidecars(shard, out))]


def _invalid_tar(shard: ShardEntry, out: Path) -> list[Path]:
    path = out / shard.name
    return [] if path.is_file() and path.stat().st_size == shard.shard_bytes else [path]


def _invalid_sidecars(shard: ShardEntry, out: Path) -> list[Path]:
    """Return the sidecars of a shard that are missing or do not match the manifest."""

    def is_index(contents: bytes) -> bool:
        return hashlib.sha256(contents).hexdigest() == shard.index_sha256

    def is_dali(contents: bytes) -> bool:
        return contents.count(b"\n") == shard.num_samples + 1 and contents.endswith(b"\n")

    checks = {out / index_name(shard.name): is_index, out / dali_name(shard.name): is_dali}
    return [path for path, check in checks.items() if not path.is_file() or not read_parsed(path, check, do=REINDEX)]


def _incomplete_error(out: Path, split: SplitPlan, entry: SplitEntry) -> ShardError:
    invalid = _invalid_files(entry, out)
    num_files = 3 * len(entry.shards)
    is_tar_invalid = any(_invalid_tar(shard, out) for shard in entry.shards)
    remedy = "fetch the files again" if is_tar_invalid else REINDEX
    more = f" (and {len(invalid) - 1} more)" if len(invalid) > 1 else ""
    return ShardError(
        f"{invalid[0]}: missing, or does not match the manifest{more}",
        expected=f"{num_files} intact files of split '{split.name}'",
        got=f"{num_files - len(invalid)}",
        do=f"{remedy}, or write the split again with --replace",
    )


def _mismatch_error(out: Path, split: SplitPlan, plan: SetPlan, base: Manifest) -> ShardError:
    entry = base.splits[split.name]
    if entry.plan == split.digest:
        return _incomplete_error(out, split, entry)
    old = vars(base.image) | {"num_samples": entry.num_samples, "num_shards": len(entry.shards)}
    new = vars(plan.image) | {"num_samples": split.num_samples, "num_shards": len(split.shards)}
    expected, got = describe_difference(new, old)
    return ShardError(
        f"{out}: already has a split '{split.name}' that was made from different inputs or settings",
        expected=expected or f"the labels, films, seed and split of plan {str(entry.plan)[:12]}",
        got=got or f"different ones (plan {split.digest[:12]})",
        do="write to another folder with --out, or replace the split with --replace",
    )


def _check_other_splits(pending: SetPlan, base: Manifest, out: Path) -> None:
    """Refuse a plan that shares keys with the kept splits or has a different image format."""
    written = {split.name for split in pending.splits}
    kept = {name: split for name, split in base.splits.items() if name not in written}
    if kept and base.image != pending.image:
        expected, got = describe_difference(vars(pending.image), vars(base.image))
        raise ShardError(
            f"{out}: its other splits ({', '.join(kept)}) have a different image format",
            expected=expected,
            got=got,
            do="use the same settings, or write to another folder with --out",
        )
    for name, entry in kept.items():
        keys = {key.decode() for shard in entry.shards for key in read_sidecar(out, shard)["key"].tolist()}
        _refuse_shared_keys(pending, keys, out, name)


def _refuse_shared_keys(pending: SetPlan, keys: set[str], out: Path, other: str) -> None:
    for split in pending.splits:
        planned = [source.label.key for shard in split.shards for source in shard.sources]
        if shared := [key for key in planned if key in keys]:
            raise ShardError(
                f"{out}: sample '{shared[0]}' would be in two splits, '{other}' and '{split.name}'",
                expected="every sample in exactly one split, so that no training sample leaks into validation",
                got=f"{len(shared):,} in both",
                do="remove them from the label table, or write to another folder with --out",
            )
