"""Build a set: write the shards that do not exist yet, then publish all of them together.

In: a `SetPlan`, and a locked folder or prefix.
Out: a `BuiltSet`.
Invariant: a manifest is written only after every file it names is on disk; a build that was interrupted and repeated
gives the same bytes as an uninterrupted one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wds_bone.errors import ImageError, ShardError
from wds_bone.labels.read import RejectedSample
from wds_bone.progress import progress
from wds_bone.sharding.existing import select_pending
from wds_bone.sharding.lists import read_bad, write_bad, write_keys
from wds_bone.sharding.plan import SetPlan, SplitPlan
from wds_bone.sharding.processes import WriterSettings, WriteShards
from wds_bone.sharding.staging import (
    finished_records,
    move_shards,
    open_staging,
    read_base_manifest,
    remove_staging,
    remove_stale_staging,
    retire_splits,
)
from wds_bone.sharding.writer import ShardRecord, check_bad_budget, format_causes
from wds_bone.shards.manifest import MANIFEST_NAME, Manifest, SplitEntry, write_manifest
from wds_bone.shards.sidecars import read_sidecars, split_entry
from wds_bone.storage.location import Location, exists


@dataclass(frozen=True)
class BuiltSet:
    """The result of a build: the manifest, the samples that were left out, and whether the set was already complete."""

    manifest: Manifest
    rejected: tuple[RejectedSample, ...]
    was_complete: bool


def build_set(
    plan: SetPlan, out: Location, *, write: WriteShards, max_bad: int | None = None, replace: bool = False
) -> BuiltSet:
    """Write the set of `plan` into `out`, or the part of it that does not exist yet.

    Args:
        plan: the splits to write.
        out: the folder or prefix of the set, locked by the caller; its other splits are kept.
        write: writes shards, in this process, in others, or on a cluster.
        max_bad: how many bad samples may be left out; None makes the first one an error.
        replace: write all splits of the plan again, and discard an unfinished run of another plan.

    Raises:
        ShardError: if `out` holds a different set, a damaged file, or one of the keys in another split.
        ImageError: if a film is bad, or more than `max_bad` samples are.
        WdsBoneError: if a file cannot be written.
    """
    base, has_manifest = read_base_manifest(out), exists(out / MANIFEST_NAME)
    if base is not None and has_manifest:
        remove_stale_staging(out, base)
    pending = select_pending(plan, base, out, replace=replace)
    known_bad = _find_known_bad(plan, pending, out)
    if base is not None and has_manifest and not pending.splits:
        check_bad_budget(known_bad, max_bad)
        write_keys(out, _complete_ids(plan, known_bad))
        return BuiltSet(base, tuple(known_bad), was_complete=True)
    staging = open_staging(out, pending, replace=replace)
    settings = WriterSettings(staging, pending.image, max_bad)
    records = _write_pending_shards(pending, out, settings, write=write)
    rejected = [*known_bad, *(bad for record in records.values() for bad in record.rejected)]
    check_bad_budget(rejected, max_bad)
    manifest = _publish(pending, out, records, base)
    return BuiltSet(manifest, tuple(rejected), was_complete=False)


def _find_known_bad(plan: SetPlan, pending: SetPlan, out: Location) -> list[RejectedSample]:
    """Return the samples that were left out during planning or when the finished splits were written."""
    finished = {split.name for split in plan.splits} - {split.name for split in pending.splits}
    planned = {bad.key for bad in plan.rejected}
    return [*plan.rejected, *(bad for bad in read_bad(out, finished) if bad.key not in planned)]


def _write_pending_shards(
    pending: SetPlan, out: Location, settings: WriterSettings, *, write: WriteShards
) -> dict[str, ShardRecord]:
    """Write the shards that are not finished yet and return the records of all shards, by name."""
    shards = [shard for split in pending.splits for shard in split.shards]
    names = [shard.name for shard in shards]
    finished = finished_records(out, names)
    unfinished = [shard for shard in shards if shard.name not in finished]
    total, left = (sum(len(shard.sources) for shard in part) for part in (shards, unfinished))
    label = " + ".join(split.name for split in pending.splits)
    with progress(total, "sample", label=label, start=total - left) as show:
        write(unfinished, settings, show=lambda done: show(total - left + done))
    records = finished_records(out, names)
    if missing := sorted(set(names) - records.keys()):
        problem, got = f"{out}: the parts of shards were removed while others were written", ", ".join(missing)
        raise ShardError(problem, expected=f"{len(names):,} shards", got=got, do="run the same command again")
    return records


def _publish(pending: SetPlan, out: Location, records: Mapping[str, ShardRecord], base: Manifest | None) -> Manifest:
    """Turn the finished shards into the set; if it is interrupted, running it again completes it."""
    # Imported here because Matplotlib takes as long to import as all other imports of the command together.
    from wds_bone.sharding.pictures import write_pictures

    kept = {split.name: _nonempty_records(split, records) for split in pending.splits}
    retire_splits(out, list(kept))
    move_shards(out, {name: [record.entry for record in part] for name, part in kept.items()})
    written = {split.name: _split_entry(split, kept[split.name], out, pending) for split in pending.splits}
    manifest = Manifest(pending.image, (base.splits if base else {}) | written)
    write_bad(out, pending.rejected, {split.name: _bad_samples(split, records) for split in pending.splits})
    write_keys(out, {split.name: _ids(split, _bad_samples(split, records)) for split in pending.splits})
    write_pictures(out, manifest)
    write_manifest(out, manifest)
    remove_staging(out)
    return manifest


def _nonempty_records(split: SplitPlan, records: Mapping[str, ShardRecord]) -> list[ShardRecord]:
    """Return the records of the shards that are not empty; a shard is empty if all its samples were bad."""
    found = [records[shard.name] for shard in split.shards]
    kept = [record for record in found if record.entry.num_samples]
    if not kept:
        causes = format_causes(_bad_samples(split, records))
        raise ImageError(
            f"split '{split.name}': all samples are bad",
            expected="at least one good sample",
            got=f"{split.num_samples:,} rejected: {causes}",
            do="fix the images",
        )
    return kept


def _split_entry(split: SplitPlan, records: list[ShardRecord], out: Location, pending: SetPlan) -> SplitEntry:
    entries = [record.entry for record in records]
    return split_entry(
        entries, read_sidecars(out, entries), label_table_sha256=pending.label_table_sha256, plan=split.digest
    )


def _bad_samples(split: SplitPlan, records: Mapping[str, ShardRecord]) -> list[RejectedSample]:
    return [bad for shard in split.shards for bad in records[shard.name].rejected]


def _ids(split: SplitPlan, rejected: Sequence[RejectedSample]) -> dict[str, str]:
    """Return the id of each key in a split whose keys are made from ids."""
    left_out = {bad.key for bad in rejected}
    sources = (source for shard in split.shards for source in shard.sources if source.label.key not in left_out)
    return {source.label.key: source.id for source in sources if source.id is not None}


def _complete_ids(plan: SetPlan, rejected: Sequence[RejectedSample]) -> dict[str, dict[str, str]]:
    """Return the ids of the finished splits that have any; the list of keys may have been lost."""
    return {split.name: ids for split in plan.splits if (ids := _ids(split, rejected))}
