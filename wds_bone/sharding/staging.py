"""Keep finished shards in the folder `.building` of a set until all of them can be moved into the set.

In: the plan of a set.
Out: the folder, which holds the plan and every finished shard; at the end, its files are moved into the set. In object
storage, the set and this folder are prefixes.
Invariant: every file in the folder belongs to the plan in it. The set itself does not change before `retire_splits`;
after that, the plan can be completed after any crash, because nothing that is needed for it has been deleted.
"""

import json
import re
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from wds_bone.errors import ShardError, WdsBoneError
from wds_bone.sharding.plan import SetPlan, describe_difference, plan_as_json
from wds_bone.sharding.writer import ShardRecord, read_record, record_path
from wds_bone.shards.manifest import (
    MANIFEST_NAME,
    PLAN_NAME,
    SHARD_SUFFIXES,
    STAGING_NAME,
    Manifest,
    ShardEntry,
    manifest_as_bytes,
    read_manifest,
    sidecar_names,
)
from wds_bone.storage.durable import read_parsed, write_bytes_atomically
from wds_bone.storage.folders import (
    create_folder,
    delete_empty_folder,
    delete_files,
    delete_folder,
    file_sizes,
    folder_exists,
    folders_in,
    move_files,
    names_in,
    sync_names,
)
from wds_bone.storage.location import Location, exists, for_each

KEPT_NAME = "kept.json"
MARKER_NAME = "running"
_DELETE_PLAN = "delete this file and run the command again; the unfinished run starts over"


def read_base_manifest(out: Location) -> Manifest | None:
    """Return the manifest to extend: that of the set, or the part of it that an interrupted replacement keeps."""
    for path in (out / MANIFEST_NAME, out / STAGING_NAME / KEPT_NAME):
        if exists(path):
            return read_manifest(path)
    return None


def open_staging(out: Location, plan: SetPlan, *, replace: bool) -> Location:
    """Return the staging folder of `plan` in `out`, as an interrupted run left it or newly created.

    Raises:
        ShardError: if it belongs to an unfinished run of another plan, or `out` has unlisted shards with the names of
            the new ones (unless `replace`).
    """
    staging = out / STAGING_NAME
    create_folder(staging)
    if isinstance(staging, Path) and staging.is_symlink():
        raise ShardError(f"{staging}: is a symbolic link", expected="a folder", got="a link", do="remove the link")
    new, old = plan_as_json(plan), _read_plan(staging)
    if old == new:
        _remove_attempts(staging)
        return staging
    if not replace:
        _refuse_unfinished(out, new, old)
        _refuse_unlisted_shards(out, [split.name for split in plan.splits])
    _clear(staging, keep=[PLAN_NAME, KEPT_NAME])
    write_bytes_atomically(staging / PLAN_NAME, json.dumps(new, indent=1).encode())
    return staging


@contextmanager
def attempts_folder(staging: Location) -> Iterator[Location]:
    """Yield a new folder in `staging` for the attempts to write shards on other machines; at the end, it is removed.

    A writer that is still running when its run has ended cannot reach the staging folder of the next run: its name for
    the folder leads nowhere. Below a prefix it can still write, but then deletes what it wrote: `run_marker` is deleted
    before the rest is listed, and the writer looks for it when it has written everything.
    """
    folder = staging / secrets.token_hex(8)
    create_folder(folder)
    marker = run_marker(folder)
    if marker != folder:
        write_bytes_atomically(marker, b"")
    try:
        yield folder
    finally:
        with suppress(WdsBoneError):  # what remains is removed with the staging folder
            if marker != folder:
                delete_files(folder, [marker.name])
            delete_folder(folder)


def run_marker(attempts: Location) -> Location:
    """Return what exists as long as the run of a folder of attempts: the folder, or an object below the prefix."""
    return attempts if isinstance(attempts, Path) else attempts / MARKER_NAME


def adopt_shard(staging: Location, attempt: Location, shard_name: str) -> None:
    """Move a finished shard from the folder of an attempt into `staging`, its record last.

    Raises:
        ShardError: if the folder has no record of the shard, or a damaged one.
        WdsBoneError: if a file cannot be moved.
    """
    record = read_record(attempt, shard_name)
    if record is None or record.entry.name != shard_name:
        raise ShardError(
            f"{attempt}: does not contain the shard that was written there",
            expected=f"{shard_name} and its record",
            got="none" if record is None else record.entry.name,
            do="make sure that all machines share this folder, and run the command again",
        )
    for names in (_file_names(record.entry), (record_path(attempt, shard_name).name,)):
        move_files(attempt, staging, names)
        sync_names(staging)
    delete_empty_folder(attempt)


def finished_records(out: Location, shard_names: Collection[str]) -> dict[str, ShardRecord]:
    """Return the records of those shards whose files all exist, in staging or (after a crash) already in the set."""
    staging = out / STAGING_NAME
    staged = file_sizes(staging)
    sizes = file_sizes(out) | staged
    recorded = [staging / name for name in shard_names if record_path(staging, name).name in staged]
    records = for_each(lambda path: read_record(staging, path.name), recorded)
    return {record.entry.name: record for record in records if record is not None and _is_whole(record.entry, sizes)}


def _is_whole(entry: ShardEntry, sizes: Mapping[str, int]) -> bool:
    return sizes.keys() >= {*_file_names(entry)} and sizes[entry.name] == entry.shard_bytes


def retire_splits(out: Location, names: Sequence[str]) -> None:
    """Remove the manifest of a set that has any of these splits; the set is unusable until the next one is written."""
    path = out / MANIFEST_NAME
    if not exists(path):
        return
    old = read_manifest(path)
    if not set(names) & set(old.splits):
        return
    kept = Manifest(old.image, {name: split for name, split in old.splits.items() if name not in names})
    if kept.splits:
        write_bytes_atomically(out / STAGING_NAME / KEPT_NAME, manifest_as_bytes(kept))
    delete_files(out, [MANIFEST_NAME])
    sync_names(out)


def move_shards(out: Location, shards: Mapping[str, Sequence[ShardEntry]]) -> None:
    """Move the shards of each split from staging into `out`, and delete all other files of these splits."""
    for split, entries in shards.items():
        wanted = {name for entry in entries for name in _file_names(entry)}
        move_files(out / STAGING_NAME, out, wanted)
        delete_files(out, [name for name in _shard_files(out, split) if name not in wanted])
    sync_names(out)


def remove_staging(out: Location) -> None:
    """Delete the staging folder, the plan last, so that a crash leaves no shard without its plan."""
    staging = out / STAGING_NAME
    if folder_exists(staging):
        _clear(staging, keep=[PLAN_NAME])
        delete_files(staging, [PLAN_NAME])
        delete_empty_folder(staging)
        sync_names(out)


def remove_stale_staging(out: Location, manifest: Manifest) -> None:
    """Delete the staging folder of a run that wrote `manifest` and was killed before it could delete the folder."""
    plan = _read_plan(out / STAGING_NAME)
    digests = {name: split.plan for name, split in manifest.splits.items()}
    if plan is None or all(digests.get(name) == split["digest"] for name, split in plan["splits"].items()):
        remove_staging(out)


def _read_plan(staging: Location) -> dict[str, Any] | None:
    path = staging / PLAN_NAME
    return read_parsed(path, _parse_plan, do=_DELETE_PLAN) if exists(path) else None


def _parse_plan(contents: bytes) -> dict[str, Any]:
    plan: dict[str, Any] = {"patient_groups": False} | json.loads(contents)  # 0.2.0 and earlier do not write it
    if not all("digest" in split for split in plan["splits"].values()):
        raise ValueError("a split without a digest")
    return plan


def _refuse_unfinished(out: Location, new: Mapping[str, object], old: Mapping[str, object] | None) -> None:
    if old is not None:
        expected, got = describe_difference(new, old)
        raise ShardError(
            f"{out}: holds an unfinished run with different settings or inputs",
            expected=expected,
            got=got,
            do="repeat that run's command to finish it, or discard it with --replace",
        )


def _refuse_unlisted_shards(out: Location, splits: Sequence[str]) -> None:
    unlisted = sorted(name for split in splits for name in _shard_files(out, split))
    if unlisted:
        raise ShardError(
            f"{out}: contains shards that are not listed in a manifest",
            expected="no files with the names of the new shards",
            got=unlisted[0] + (f" and {len(unlisted) - 1} more" if len(unlisted) > 1 else ""),
            do="write to another folder with --out, or overwrite them with --replace",
        )


def _clear(staging: Location, *, keep: Collection[str]) -> None:
    _remove_attempts(staging)
    delete_files(staging, [name for name in names_in(staging) if name not in keep])


def _remove_attempts(staging: Location) -> None:
    """Delete what lost or killed runs on a cluster have left: the only folders in the staging folder."""
    for folder in folders_in(staging):
        delete_folder(folder)


def _file_names(entry: ShardEntry) -> tuple[str, ...]:
    return entry.name, *sidecar_names(entry)


def _shard_files(out: Location, split: str) -> list[str]:
    """Return the names of the files in a set that have the form of those of a split."""
    pattern = re.compile(rf"{re.escape(split)}-\d{{6}}({'|'.join(map(re.escape, SHARD_SUFFIXES))})")
    return [name for name in names_in(out) if pattern.fullmatch(name)]
