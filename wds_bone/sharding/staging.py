"""Keep finished shards in the folder `.building` of a set until all of them can be moved into the set.

In: the plan of a set.
Out: the folder, which holds the plan and every finished shard; at the end, its files are moved into the set.
Invariant: every file in the folder belongs to the plan in it. The set itself does not change before `retire_splits`;
after that, the plan can be completed after any crash, because nothing that is needed for it has been deleted.
"""

import json
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from wds_bone.errors import ShardError
from wds_bone.sharding.plan import SetPlan, describe_difference, plan_as_json
from wds_bone.sharding.writer import ShardRecord, read_record, record_path
from wds_bone.shards.manifest import (
    MANIFEST_NAME,
    SHARD_SUFFIXES,
    STAGING_NAME,
    Manifest,
    ShardEntry,
    manifest_as_bytes,
    read_manifest,
    sidecar_names,
)
from wds_bone.storage.durable import read_parsed, storage_errors, sync_folder, write_bytes_atomically

PLAN_NAME = "plan.json"
KEPT_NAME = "kept.json"
_DELETE_PLAN = "delete this file and run the command again; the unfinished run starts over"


def read_base_manifest(out: Path) -> Manifest | None:
    """Return the manifest to extend: that of the set, or the part of it that an interrupted replacement keeps."""
    for path in (out / MANIFEST_NAME, out / STAGING_NAME / KEPT_NAME):
        if path.exists():
            return read_manifest(path)
    return None


def open_staging(out: Path, plan: SetPlan, *, replace: bool) -> Path:
    """Return the staging folder of `plan` in `out`, as an interrupted run left it or newly created.

    Raises:
        ShardError: if it belongs to an unfinished run of another plan, or `out` has unlisted shards with the names of
            the new ones (unless `replace`).
    """
    staging = out / STAGING_NAME
    with storage_errors(staging):
        staging.mkdir(exist_ok=True)
    if staging.is_symlink():
        raise ShardError(f"{staging}: is a symbolic link", expected="a folder", got="a link", do="remove the link")
    new, old = plan_as_json(plan), _read_plan(staging)
    if old == new:
        _remove_attempts(staging)
        return staging
    if not replace:
        _refuse_unfinished(out, new, old)
        _refuse_unlisted_shards(out, [split.name for split in plan.splits])
    _clear(staging)
    write_bytes_atomically(staging / PLAN_NAME, json.dumps(new, indent=1).encode())
    return staging


@contextmanager
def attempts_folder(staging: Path) -> Iterator[Path]:
    """Yield a new folder in `staging` for the attempts to write shards on other machines; at the end, it is removed.

    A writer that is still running when its run has ended cannot reach the staging folder of the next run: its name for
    the folder leads nowhere.
    """
    folder = staging / secrets.token_hex(8)
    with storage_errors(folder):
        folder.mkdir()
    try:
        yield folder
    finally:
        with suppress(OSError):  # what remains is removed with the staging folder
            _remove_folder(folder)


def adopt_shard(staging: Path, attempt: Path, shard_name: str) -> None:
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
    with storage_errors(staging):
        for name in _file_names(record.entry):
            (attempt / name).rename(staging / name)
        sync_folder(staging)
        record_path(attempt, shard_name).rename(record_path(staging, shard_name))
        sync_folder(staging)
        attempt.rmdir()


def finished_record(out: Path, shard_name: str) -> ShardRecord | None:
    """Return the record of a shard if all its files exist, in staging or (after a crash) already in the set."""
    record = read_record(out / STAGING_NAME, shard_name)
    if record is None or any(_find_file(out, name) is None for name in _file_names(record.entry)):
        return None
    shard = _find_file(out, shard_name)
    return record if shard and shard.stat().st_size == record.entry.shard_bytes else None


def retire_splits(out: Path, names: Sequence[str]) -> None:
    """Remove the manifest of a set that has any of these splits; the set is unusable until the next one is written."""
    path = out / MANIFEST_NAME
    if not path.exists():
        return
    old = read_manifest(path)
    if not set(names) & set(old.splits):
        return
    kept = Manifest(old.image, {name: split for name, split in old.splits.items() if name not in names})
    if kept.splits:
        write_bytes_atomically(out / STAGING_NAME / KEPT_NAME, manifest_as_bytes(kept))
    with storage_errors(path):
        path.unlink()
        sync_folder(out)


def move_shards(out: Path, shards: Mapping[str, Sequence[ShardEntry]]) -> None:
    """Move the shards of each split from staging into `out`, and delete all other files of these splits."""
    with storage_errors(out):
        for split, entries in shards.items():
            wanted = [name for entry in entries for name in _file_names(entry)]
            for name in wanted:
                staged = out / STAGING_NAME / name
                if staged.exists():
                    staged.rename(out / name)
            for stale in set(_shard_files(out, split)) - {out / name for name in wanted}:
                stale.unlink()
        sync_folder(out)


def remove_staging(out: Path) -> None:
    """Delete the staging folder, the plan last, so that a crash leaves no shard without its plan."""
    staging = out / STAGING_NAME
    if staging.is_dir():
        _clear(staging, with_kept=True)
        with storage_errors(staging):
            staging.rmdir()
            sync_folder(out)


def remove_stale_staging(out: Path, manifest: Manifest) -> None:
    """Delete the staging folder of a run that wrote `manifest` and was killed before it could delete the folder."""
    plan = _read_plan(out / STAGING_NAME)
    digests = {name: split.plan for name, split in manifest.splits.items()}
    if plan is None or all(digests.get(name) == split["digest"] for name, split in plan["splits"].items()):
        remove_staging(out)


def _read_plan(staging: Path) -> dict[str, Any] | None:
    path = staging / PLAN_NAME
    return read_parsed(path, _parse_plan, do=_DELETE_PLAN) if path.exists() else None


def _parse_plan(contents: bytes) -> dict[str, Any]:
    plan: dict[str, Any] = {"patient_groups": False} | json.loads(contents)  # 0.2.0 and earlier do not write it
    if not all("digest" in split for split in plan["splits"].values()):
        raise ValueError("a split without a digest")
    return plan


def _refuse_unfinished(out: Path, new: Mapping[str, object], old: Mapping[str, object] | None) -> None:
    if old is not None:
        expected, got = describe_difference(new, old)
        raise ShardError(
            f"{out}: holds an unfinished run with different settings or inputs",
            expected=expected,
            got=got,
            do="repeat that run's command to finish it, or discard it with --replace",
        )


def _refuse_unlisted_shards(out: Path, splits: Sequence[str]) -> None:
    unlisted = sorted(path.name for split in splits for path in _shard_files(out, split))
    if unlisted:
        raise ShardError(
            f"{out}: contains shards that are not listed in a manifest",
            expected="no files with the names of the new shards",
            got=unlisted[0] + (f" and {len(unlisted) - 1} more" if len(unlisted) > 1 else ""),
            do="write to another folder with --out, or overwrite them with --replace",
        )


def _clear(staging: Path, *, with_kept: bool = False) -> None:
    _remove_attempts(staging)
    with storage_errors(staging):
        for path in staging.iterdir():
            if path.name != PLAN_NAME and (with_kept or path.name != KEPT_NAME):
                path.unlink()
        (staging / PLAN_NAME).unlink(missing_ok=True)


def _remove_attempts(staging: Path) -> None:
    """Delete what lost or killed runs on a cluster have left: the only folders in the staging folder."""
    with storage_errors(staging):
        for path in staging.iterdir():
            if path.is_dir() and not path.is_symlink():
                _remove_folder(path)


def _remove_folder(folder: Path) -> None:
    """Delete a folder in which other machines may still be writing; without its name, they find it no longer."""
    nameless = folder.with_name(secrets.token_hex(8))
    folder.rename(nameless)
    shutil.rmtree(nameless)


def _file_names(entry: ShardEntry) -> tuple[str, ...]:
    return entry.name, *sidecar_names(entry)


def _find_file(out: Path, name: str) -> Path | None:
    candidates = (out / STAGING_NAME / name, out / name)
    return next((path for path in candidates if path.exists()), None)


def _shard_files(out: Path, split: str) -> list[Path]:
    numbered = f"{split}-" + "[0-9]" * 6
    return [path for suffix in SHARD_SUFFIXES for path in out.glob(numbered + suffix)]
