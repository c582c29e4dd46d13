"""Write a whole set: the shards that are missing, then all at once the set.

In: a `SetPlan` and a folder under lock. Out: a `BuiltSet`. Invariant: a manifest is only ever written when everything
it names is on the disk; an interrupted and repeated build gives the bytes of an uninterrupted one.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from wds_bone.errors import ImageError
from wds_bone.shards.durable import publish_bytes, storage_errors
from wds_bone.shards.existing import plan_missing
from wds_bone.shards.labels import Rejected
from wds_bone.shards.lock import Lock
from wds_bone.shards.manifest import MANIFEST_NAME, Manifest, SplitEntry, write_manifest
from wds_bone.shards.overview import write_pictures
from wds_bone.shards.plan import SetPlan, SplitPlan
from wds_bone.shards.processes import WriterSettings, write_shards
from wds_bone.shards.progress import progress
from wds_bone.shards.sidecars import read_sidecar, split_entry
from wds_bone.shards.staging import (
    clear_finished,
    finished_record,
    move_shards,
    open_staging,
    read_base,
    remove_staging,
    retire_splits,
)
from wds_bone.shards.writer import ShardRecord, check_budget, count_causes

BAD_NAME = "bad.jsonl"


@dataclass(frozen=True)
class BuiltSet:
    """What a build ended with: the manifest, the samples left out by this call, and whether there was nothing to do."""

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
        replace: a split of another plan, or an unfinished run of another plan, gives way.

    Raises:
        ShardError: `out` holds something else, or a key in another split.
        ImageError: a bad film, or too many.
        WdsBoneError: the disk refuses.
    """
    base, is_set = read_base(out), (out / MANIFEST_NAME).exists()
    if base is not None and is_set:
        clear_finished(out, base)
    todo = plan_missing(plan, base, out, replace=replace)
    if base is not None and is_set and not todo.splits:
        return BuiltSet(base, (), was_complete=True)
    staging = open_staging(out, todo, replace=replace)
    records = _finish_shards(todo, out, WriterSettings(staging, todo.image, max_bad, lock), workers=workers)
    rejected = [*todo.rejected, *(bad for record in records.values() for bad in record.rejected)]
    check_budget(rejected, max_bad)
    manifest = _publish(todo, out, records, base)
    return BuiltSet(manifest, tuple(rejected), was_complete=False)


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
    _write_bad(out, todo, records)
    write_pictures(out, manifest)
    write_manifest(out, manifest)
    remove_staging(out)
    return manifest


def _kept_records(split: SplitPlan, records: Mapping[str, ShardRecord]) -> list[ShardRecord]:
    """Return the records of the shards that hold any sample; the bad ones may have been all there was."""
    found = [records[shard.name] for shard in split.shards]
    kept = [record for record in found if record.entry.num_samples]
    if not kept:
        causes = count_causes([bad for record in found for bad in record.rejected])
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


def _write_bad(out: Path, todo: SetPlan, records: Mapping[str, ShardRecord]) -> None:
    """List the rejected samples in bad.jsonl, beside those of the splits that stay."""
    path, written = out / BAD_NAME, [split.name for split in todo.splits]
    lines = [{**asdict(bad), "splits": written} for bad in todo.rejected]
    for split in todo.splits:
        for shard in split.shards:
            lines += [{**asdict(bad), "splits": [split.name]} for bad in records[shard.name].rejected]
    old = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []
    lines = [line for line in old if not set(line["splits"]) & set(written)] + lines
    if lines:
        publish_bytes(path, "".join(json.dumps(line) + "\n" for line in lines).encode())
        return
    with storage_errors(path):
        path.unlink(missing_ok=True)
