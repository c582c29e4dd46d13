"""What a folder already holds, against what is to be written into it.

In: a plan and the manifest of the folder, if it has one. Out: the splits that are to be written. Invariant: nothing is
replaced that the user did not give up, no key gets into two splits, and one set has one image format.
"""

import hashlib
from dataclasses import replace as changed
from pathlib import Path

from wds_bone.errors import ShardError
from wds_bone.sharding.plan import SetPlan, SplitPlan, describe_difference
from wds_bone.shards.manifest import Manifest, ShardEntry, SplitEntry, dali_name, index_name
from wds_bone.shards.sidecars import REINDEX, read_sidecar
from wds_bone.storage.durable import read_published


def plan_missing(plan: SetPlan, base: Manifest | None, out: Path, *, replace: bool) -> SetPlan:
    """Return the part of `plan` that is to be written, possibly nothing.

    Args:
        plan: what is wanted.
        base: the manifest of what there is.
        out: the folder.
        replace: all are written, whatever there is.

    Raises:
        ShardError: a split of the plan is there, but not so and not whole; or another split has its keys, or another
            image format.
    """
    there = base.splits if base else {}
    missing = [split for split in plan.splits if replace or not _is_done(split, there.get(split.name), out)]
    for split in missing:
        if base is not None and split.name in there and not replace:
            raise _not_ours(out, split, plan, base)
    todo = changed(plan, splits=tuple(missing))
    if base is not None and missing:
        _check_neighbors(todo, base, out)
    return todo


def _is_done(split: SplitPlan, entry: SplitEntry | None, out: Path) -> bool:
    return entry is not None and entry.plan == split.digest and not _missing_files(entry, out)


def _missing_files(entry: SplitEntry, out: Path) -> list[Path]:
    return [path for shard in entry.shards for path in (*_missing_tar(shard, out), *_missing_sidecars(shard, out))]


def _missing_tar(shard: ShardEntry, out: Path) -> list[Path]:
    path = out / shard.name
    return [] if path.is_file() and path.stat().st_size == shard.shard_bytes else [path]


def _missing_sidecars(shard: ShardEntry, out: Path) -> list[Path]:
    """Return the files beside a shard that are not there, or not whole as far as the manifest tells."""

    def is_index(contents: bytes) -> bool:
        return hashlib.sha256(contents).hexdigest() == shard.index_sha256

    def is_dali(contents: bytes) -> bool:
        return contents.count(b"\n") == shard.num_samples + 1 and contents.endswith(b"\n")

    checks = {out / index_name(shard.name): is_index, out / dali_name(shard.name): is_dali}
    return [path for path, check in checks.items() if not path.is_file() or not read_published(path, check, do=REINDEX)]


def _not_whole(out: Path, split: SplitPlan, entry: SplitEntry) -> ShardError:
    lost = _missing_files(entry, out)
    num_files = 3 * len(entry.shards)
    is_tar_lost = any(_missing_tar(shard, out) for shard in entry.shards)
    remedy = "fetch them again" if is_tar_lost else REINDEX
    return ShardError(
        f"{lost[0]}: missing, or not as the manifest says" + (f", like {len(lost) - 1} more" if len(lost) > 1 else ""),
        expected=f"{num_files} whole files of the split '{split.name}'",
        got=f"{num_files - len(lost)}",
        do=f"{remedy}, or write the split again with --replace",
    )


def _not_ours(out: Path, split: SplitPlan, plan: SetPlan, base: Manifest) -> ShardError:
    entry = base.splits[split.name]
    if entry.plan == split.digest:
        return _not_whole(out, split, entry)
    old = vars(base.image) | {"num_samples": entry.num_samples, "num_shards": len(entry.shards)}
    new = vars(plan.image) | {"num_samples": split.num_samples, "num_shards": len(split.shards)}
    expected, got = describe_difference(new, old)
    return ShardError(
        f"{out}: already has a split '{split.name}', made from other inputs or settings",
        expected=expected or f"the labels, films, seed and split of plan {str(entry.plan)[:12]}",
        got=got or f"others (plan {split.digest[:12]})",
        do="write into another folder with --out, or replace the split with --replace",
    )


def _check_neighbors(todo: SetPlan, base: Manifest, out: Path) -> None:
    """Compare with the splits that stay."""
    written = {split.name for split in todo.splits}
    staying = {name: split for name, split in base.splits.items() if name not in written}
    if staying and base.image != todo.image:
        expected, got = describe_difference(vars(todo.image), vars(base.image))
        raise ShardError(
            f"{out}: the other splits there ({', '.join(staying)}) have another image format",
            expected=expected,
            got=got,
            do="give the same settings, or write into another folder with --out",
        )
    for name, entry in staying.items():
        keys = {key.decode() for shard in entry.shards for key in read_sidecar(out, shard)["key"].tolist()}
        _refuse_leak(todo, keys, out, name)


def _refuse_leak(todo: SetPlan, keys: set[str], out: Path, other: str) -> None:
    for split in todo.splits:
        planned = [source.label.key for shard in split.shards for source in shard.sources]
        if shared := [key for key in planned if key in keys]:
            raise ShardError(
                f"{out}: sample '{shared[0]}' would be in two splits, '{other}' and '{split.name}'",
                expected="every sample in one split, so that nothing leaks from training into validation",
                got=f"{len(shared):,} samples in both",
                do="remove them from the label table, or write into another folder with --out",
            )
