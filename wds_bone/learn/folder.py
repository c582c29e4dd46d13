"""A run folder: what is in it, and whether this command may go on there.

In come the settings of a command, out goes the checkpoint to continue from, or an error. The invariant: one folder only
ever holds one run; what it holds is never overwritten by another.
"""

import io
import json
from pathlib import Path
from typing import Any

from wds_bone.config_file import settings_as_toml
from wds_bone.distributed.ranks import Ranks
from wds_bone.errors import CheckpointError, ConfigError
from wds_bone.learn.settings import setting_name
from wds_bone.learn.snapshot import LAST_NAME
from wds_bone.model.checkpoint import load_checkpoint, read_checkpoint, read_whole
from wds_bone.storage.durable import publish_bytes

RUN_NAME, CONFIG_NAME = "run.json", "config.toml"
OF_A_PROCESS = frozenset({"train", "val", "out", "threads", "resume"})
"""Settings that may differ between the processes of a run."""
MAY_CHANGE = OF_A_PROCESS | {
    "max_steps",
    "device",
    "compile",
    "log_every",
    "dry_run",
    "patience",
    "accumulate",
    "timeout_seconds",
}
"""Settings that may differ when a run goes on. Where the shards lie may change, what is in them may not (the digests in
the checkpoint tell). The device may change, though only the same device gives the same bits; so may the number of
processes and of the parts of a batch, which change rounding, batch statistics and random layers, not the samples."""


def find_checkpoint(folder: Path, resume: str) -> Path | None:
    """Return the checkpoint to continue from, None to begin anew.

    Args:
        folder: of the run.
        resume: "auto" (the folder's `last.pt` if it is there), "none", or a file.

    Raises:
        ConfigError: "none", but the folder holds a run.
    """
    last = folder / LAST_NAME
    if resume == "none" and last.exists():
        raise ConfigError(
            f"{folder}: holds a run already",
            expected="a new or empty folder with --resume none",
            got=str(last),
            do="give another --out, or move that folder away",
        )
    if resume in ("auto", "none"):
        return last if last.exists() else None
    return Path(resume)


def claim_folder(folder: Path, description: dict[str, Any]) -> None:
    """Write `config.toml` and `run.json`, before anything else of the run; refuse a folder of another run.

    Args:
        folder: is made if it is not there.
        description: plain JSON types; its "config" decides which run this is.

    Raises:
        ConfigError: the folder cannot be made, or holds a run with other settings.
        CheckpointError: its `run.json` is damaged.
        WdsBoneError: the disk refuses.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be made: {error.strerror}", do="give another --out") from error
    path = folder / RUN_NAME
    if path.exists():
        refuse_other_config(_read_description(path), description, where=str(folder))
    publish_bytes(folder / CONFIG_NAME, settings_as_toml(description["config"]))
    publish_bytes(path, (json.dumps(description, indent=2, allow_nan=False) + "\n").encode())


def load_own_checkpoint(path: Path | None, description: dict[str, Any], ranks: Ranks) -> dict[str, Any]:
    """Load a checkpoint that was written with the settings and the version in `description`, on every rank.

    Args:
        path: of the first rank's disk; the others take what that one reads.
        description: of this run.
        ranks: that all go on from it.

    Raises:
        CheckpointError: damaged, or written by another version.
        ConfigError: written with other settings.
    """
    if not ranks.is_first:
        return _take_from_first(ranks)
    assert path is not None
    contents = load_checkpoint(path)
    refuse_other_config(contents, description, where=str(path))
    saved, here = contents["versions"]["wds_bone"], description["versions"]["wds_bone"]
    if saved != here:
        raise CheckpointError(
            f"{path}: written by another version of wds_bone, which may compute other numbers",
            expected=saved,
            got=here,
            do=f"install wds_bone {saved}, or begin a new run with --init-weights {path} and another --out",
        )
    if ranks.world_size > 1:
        ranks.share_bytes(read_whole(path))
    return contents


def _take_from_first(ranks: Ranks) -> dict[str, Any]:
    """Return what the first rank has read, which it has checked before it gave it away."""
    return read_checkpoint(io.BytesIO(ranks.share_bytes(None)), where="the checkpoint that rank 0 sent")


def refuse_other_config(saved: dict[str, Any], here: dict[str, Any], *, where: str) -> None:
    """Raise unless two descriptions agree in the settings that decide the result.

    Raises:
        ConfigError: with the settings that differ, both values of each.
    """
    before, now = saved["config"], here["config"]
    names = [name for name in now if name not in MAY_CHANGE and before.get(name) != now[name]]
    if names:
        raise ConfigError(
            f"{where}: belongs to a run with other settings",
            expected=", ".join(f"{setting_name(name)} {before.get(name)}" for name in names),
            got=", ".join(f"{setting_name(name)} {now[name]}" for name in names),
            do="give the same settings to go on with that run, or another --out to begin a new one",
        )


def _read_description(path: Path) -> dict[str, Any]:
    try:
        description = json.loads(path.read_bytes())
        if not isinstance(description["config"], dict):
            raise TypeError("its config is not a mapping")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: damaged",
            expected="what train wrote there about its run",
            got=f"{type(error).__name__}: {error}",
            do="give another --out, or move that file away: the checkpoints beside it say the same",
        ) from error
    return dict(description)
