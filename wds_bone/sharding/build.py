"""Write a whole set: the shards that are missing, then all at once the set.

In: a `SetPlan` and a folder under lock. Out: a `BuiltSet`. Invariant: a manifest is only ever written when everything
it names is on the disk; an interrupted and repeated build gives the bytes of an uninterrupted one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wds_bone.errors import ImageError
from wds_bone.labels.read import Rejected
from wds_bone.progress import progress
from wds_bone.sharding.bad_list import read_bad, write_bad
from wds_bone.sharding.existing import plan_missing
from wds_bone.sharding.lock import Lock
from wds_bone.sharding.overview import write_pictures
from wds_bone.sharding.plan import SetPlan, SplitPlan
from wds_bone.sharding.processes import WriterSettings, write_shards
from wds_bone.sharding.staging import (
    clear_finished,
    finished_record,
    move_shards,
    open_staging,
    read_base,
    remove_staging,
    retire_splits,
)
from wds_bone.sharding.writer import ShardRecord, check_budget, count_causes
from wds_bone.shards.manifest import MANIFEST_NAME, Manifest, SplitEntry, write_manifest
from wds_bone.shards.sidecars import read_sidecar, split_entry


@dataclass(frozen=True)
class BuiltSet:
    """What a build ended with: the manifest, the samples of the plan that were left out, and whether it was there."""

    manifest: Manifest
    rejected: tuple[Rejected, ...]
    was_complete: bool


def build_set(
    plan: SetPlan, out: Path, *, lock: Lock, workers: int, max_bad: int | None = None, replace: bool = False
) -> BuiltSet:
    """Write the set of `plan` into `out`, or what is missing of it.

    Args:
        plan: what to write.
        out: the folder of the set; other splits in it stay.
        lock: on `out`, held by the caller.
        workers: shards written at a time.
        max_bad: how many bad samples may be left out; None makes the first one an error.
        replace: the splits are written anew, whatever is there, and an unfinished run of another plan gives way.

    Raises:
        ShardError: `out` holds something else, something damaged, or a key in another split.
        ImageError: a bad film, or too many.
        WdsBoneError: the disk refuses.
    """
    base, is_set = read_base(out), (out / MANIFEST_NAME).exists()
    if base is not None and is_set:
        clear_finished(out, base)
    todo = plan_missing(plan, base, out, replace=replace)
    known_bad = _known_bad(plan, todo, out)
    if base is not None and is_set and not todo.splits:
        check_budget(known_bad, max_bad)
        return BuiltSet(base, tuple(known_bad), was_complete=True)
    staging = open_staging(out, todo, replace=replace)
    records = _finish_shards(todo, out, WriterSettings(staging, todo.image, max_bad, lock), workers=workers)
    rejected = [*known_bad, *(bad for record in records.values() for bad in record.rejected)]
    check_budget(rejected, max_bad)
    manifest = _publish(todo, out, records, base)
    return BuiltSet(manifest, tuple(rejected), was_complete=False)


def _known_bad(plan: SetPlan, todo: SetPlan, out: Path) -> list[Rejected]:
    """Return what was left out while planning, and when the splits of the plan were written that are there already."""
    there = {split.name for split in plan.splits} - {split.name for split in todo.splits}
    planned = {bad.key for bad in plan.rejected}
    return [*plan.rejected, *(bad for bad in read_bad(out, there) if bad.key not in planned)]


def _finish_shards(todo: SetPlan, out: Path, settings: WriterSettings, *, workers: int) -> dict[str, ShardRecord]:
    """Write the shards that are not finished yet and return the records of all, by name."""
    shards = [shard for split in todo.splits for shard in split.shards]
    rest = [shard for shard in shards if finished_record(out, shard.name) is None]
    total, left = (sum(len(shard.sources) for shard in part) for part in (shards, rest))
    label = " + ".join(split.name for split in todo.splits)
    with progress(total, "samples", label=label, start=total - left) as show:
        write_shards(rest, settings, workers=workers, show=lambda done: show(total - left + done))
    records = {shard.name: finished_record(out, shard.name) for shard in shards}
    assert all(records.values())
    return {name: record for name, record in records.items() if record is not None}


def _publish(todo: SetPlan, out: Path, records: Mapping[str, ShardRecord], base: Manifest | None) -> Manifest:
    """Make the finished shards the set; after a crash at any step a repetition completes it."""
    kept = {split.name: _kept_records(split, records) for split in todo.splits}
    retire_splits(out, list(kept))
    move_shards(out, {name: [record.entry.name for record in part] for name, part in kept.items()})
    written = {split.name: _split_entry(split, kept[split.name], out, todo) for split in todo.splits}
    manifest = Manifest(todo.image, (base.splits if base else {}) | written)
    write_bad(out, todo.rejected, {split.name: _bad_samples(split, records) for split in todo.splits})
    write_pictures(out, manifest)
    write_manifest(out, manifest)
    remove_staging(out)
    return manifest


def _kept_records(split: SplitPlan, records: Mapping[str, ShardRecord]) -> list[ShardRecord]:
    """Return the records of the shards that hold any sample; the bad ones may have been all there was."""
    found = [records[shard.name] for shard in split.shards]
    kept = [record for record in found if record.entry.num_samples]
    if not kept:
        causes = count_causes(_bad_samples(split, records))
        raise ImageError(
            f"the split '{split.name}' has no good sample left",
            expected="at least one",
            got=f"{split.num_samples:,} bad ones: {causes}",
            do="mend the images",
        )
    return kept


def _split_entry(split: SplitPlan, records: list[ShardRecord], out: Path, todo: SetPlan) -> SplitEntry:
    entries = [record.entry for record in records]
    tables = [read_sidecar(out, entry) for entry in entries]
    return split_entry(entries, tables, label_table_sha256=todo.label_table_sha256, plan=split.digest)


def _bad_samples(split: SplitPlan, records: Mapping[str, ShardRecord]) -> list[Rejected]:
    return [bad for shard in split.shards for bad in records[shard.name].rejected]
