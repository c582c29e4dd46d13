"""Find the checkpoint to resume from in the folder of a run, and check that the run may write there.

In: the settings and the provenance of a run.
Out: the checkpoint to resume from, or an error.
Invariant: a folder contains one run only, and nothing in it is overwritten by another run.
"""

import io
import json
from pathlib import Path
from typing import Any

from wds_bone.config import assignment, options_of, setting_name
from wds_bone.config_file import settings_as_toml
from wds_bone.distributed.hardware import pick_rate
from wds_bone.distributed.ranks import Ranks
from wds_bone.errors import CheckpointError, ConfigError
from wds_bone.inference.predictions import PREDICTIONS_NAME
from wds_bone.learn.metrics_file import METRICS_NAME
from wds_bone.learn.metrics_log import CURVE_NAME
from wds_bone.learn.settings import TrainConfig, count_steps, default_ema
from wds_bone.model.checkpoint import (
    BEST_NAME,
    LAST_NAME,
    can_be_resumed,
    load_checkpoint,
    read_checkpoint,
    read_whole,
)
from wds_bone.model.model import HeadShape
from wds_bone.model.preprocess import NORMALIZATION
from wds_bone.model.weights import head_settings
from wds_bone.storage.durable import write_bytes_atomically

RUN_NAME, CONFIG_NAME = "run.json", "config.toml"
RUN_FILES = (CONFIG_NAME, RUN_NAME, METRICS_NAME, CURVE_NAME, LAST_NAME, BEST_NAME, PREDICTIONS_NAME)
_COMPUTED_BY = ("torch", "torchvision", "timm", "python")


def find_checkpoint(folder: Path, resume: str) -> Path | None:
    """Return the checkpoint to resume from, or None for a new run.

    Args:
        folder: the folder of the run.
        resume: "auto" (the folder's `last.pt`, if it exists), "none", or a file.

    Raises:
        ConfigError: if `resume` is "none" but the folder contains a run.
    """
    last = folder / LAST_NAME
    if resume == "none" and last.exists():
        raise ConfigError(
            f"{folder}: already contains a run",
            expected="a new or empty folder with --resume none",
            got=str(last),
            do="use another --out, or move that folder",
        )
    if resume in ("auto", "none"):
        return last if last.exists() else None
    return Path(resume)


def claim_folder(folder: Path, provenance: dict[str, Any], *, step: int, world_size: int) -> None:
    """Write `config.toml` and `run.json` before any other file of the run; refuse the folder of another run.

    `run.json` is the provenance of the latest launch, with a history that has one entry for each launch.

    Args:
        folder: the folder of the run, which this process has locked.
        provenance: the provenance of the run in plain JSON types; its "config" identifies the run.
        step: number of steps taken before this launch.
        world_size: number of processes in this launch.

    Raises:
        ConfigError: if the folder contains a run with other settings, or the predictions of an evaluation.
        CheckpointError: if its `run.json` is damaged, or was written by another version.
        WdsBoneError: if a file cannot be written.
    """
    path, history = folder / RUN_NAME, []
    if path.exists():
        saved = _read_provenance(path)
        refuse_other_run(saved, provenance, where=str(folder))
        history = saved["history"]
    else:
        _refuse_other_predictions(folder)
    launch = {"step": step, "world_size": world_size, "device": provenance["config"]["device"]}
    history = [*history, launch | {name: provenance[name] for name in ("versions", "code")}]
    write_bytes_atomically(folder / CONFIG_NAME, settings_as_toml(_repeatable(provenance["config"])))
    write_bytes_atomically(
        path, (json.dumps(provenance | {"history": history}, indent=2, allow_nan=False) + "\n").encode()
    )


def refuse_run_folder(folder: Path) -> None:
    """Check that no run would lose its predictions to an evaluation that writes to this folder.

    Raises:
        ConfigError: if there is a run in it.
    """
    if (folder / RUN_NAME).exists():
        raise ConfigError(
            f"{folder}: contains a run, whose {PREDICTIONS_NAME} an evaluation would replace",
            expected="a folder without a run",
            got=str(folder / RUN_NAME),
            do=f"use another --out, such as {folder / 'evaluation'}",
        )


def load_own_checkpoint(path: Path | None, provenance: dict[str, Any], ranks: Ranks) -> dict[str, Any]:
    """Load a checkpoint that was written with the same settings and the same version, on every rank.

    Args:
        path: the checkpoint on the disk of the first rank, which sends the content to the others.
        provenance: the provenance of this run.
        ranks: the ranks, which all resume from it.

    Raises:
        CheckpointError: if it is damaged, was written by another version, or lacks the state of training.
        ConfigError: if it was written with other settings.
    """
    if not ranks.is_first:
        # The first rank has verified the content before sending it.
        return read_checkpoint(io.BytesIO(ranks.share_bytes(None)), where="the checkpoint that rank 0 sent")
    assert path is not None
    contents = load_checkpoint(path)
    _refuse_for_inference(contents, path)
    refuse_other_run(contents, provenance, where=str(path))
    if not ranks.is_alone:
        ranks.share_bytes(read_whole(path))
    return contents


def refuse_other_run(saved: dict[str, Any], here: dict[str, Any], *, where: str) -> None:
    """Check that two provenances have the same version and the same settings that affect the result.

    Raises:
        CheckpointError: if the versions or the normalizations differ, or the run had fewer settings.
        ConfigError: if settings differ; the error names them with both values. It does not name those that differ only
            because they were derived from the others.
    """
    _refuse_other_version(saved, here, where=where)
    _refuse_older_rules(saved, here, where=where)
    before, now = saved["config"], here["config"]
    if names := _changed(without_derived(saved), without_derived(here)) or _changed(before, now):
        raise ConfigError(
            f"{where}: belongs to a run with other settings",
            expected=", ".join(assignment(TrainConfig, name, before[name]) for name in names),
            got=", ".join(assignment(TrainConfig, name, now[name]) for name in names),
            do="use the same settings to resume that run, or another --out to start a new one",
        )


def without_derived(provenance: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a run, with None for those that have the value that is derived if they are not set.

    Args:
        provenance: "config", the resolved settings in plain JSON types, and "samples", the number of them.
    """
    config: dict[str, Any] = provenance["config"]
    epochs, batch_size = config["epochs"], config["batch_size"]
    num_steps = count_steps(provenance["samples"]["train"], epochs=epochs, batch_size=batch_size)
    derived = {"ema": default_ema(num_steps), "lr": pick_rate(config["model"])}
    return config | {name: None for name, value in derived.items() if config[name] == value}


def describe_changes(saved: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """Return what may compute different numbers than before: changed packages, or changed code of the same version."""
    before, now = ({name: known["versions"].get(name) for name in _COMPUTED_BY} for known in (saved, here))
    changes = [f"{name} {before[name]} -> {now[name]}" for name in _COMPUTED_BY if before[name] != now[name]]
    return changes + (["the code of wds_bone"] if saved.get("code") != here["code"] else [])


def _changed(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return the names of the settings that differ and must not."""
    may_change = {name for name, known in options_of(TrainConfig).items() if known.may_change or known.may_differ}
    return [name for name in now if name not in may_change and before.get(name) != now[name]]


def _refuse_other_predictions(folder: Path) -> None:
    """Check that the folder of a new run has no predictions; a run whose `run.json` was removed has a checkpoint."""
    predictions = folder / PREDICTIONS_NAME
    if predictions.exists() and not (folder / LAST_NAME).exists():
        raise ConfigError(
            f"{folder}: contains the results of an evaluation, whose {PREDICTIONS_NAME} a run would replace",
            expected="a folder for the run",
            got=str(predictions),
            do="use another --out, or move that file",
        )


def _refuse_for_inference(contents: dict[str, Any], path: Path) -> None:
    if can_be_resumed(contents):
        return
    last = path.with_name(LAST_NAME)
    resume = f"use --resume {last}, or " if last.exists() else ""
    raise CheckpointError(
        f"{path}: cannot be resumed, because it is for prediction and has no state of training",
        expected=f"the {LAST_NAME} of a run",
        got="averaged weights only",
        do=f"{resume}start a new run from these weights with --init-weights {path} and another --out",
    )


def _repeatable(config: dict[str, Any]) -> dict[str, Any]:
    """Return the settings without the checkpoint that this launch resumes, which a copy of the file must not load."""
    return {name: value for name, value in config.items() if name != "resume"}


def _refuse_other_version(saved: dict[str, Any], here: dict[str, Any], *, where: str) -> None:
    before, now = saved["versions"]["wds_bone"], here["versions"]["wds_bone"]
    if before != now:
        raise CheckpointError(
            f"{where}: belongs to a run of another version of wds_bone, whose numbers may differ",
            expected=f"wds_bone {before}",
            got=f"wds_bone {now}",
            do=f"install wds_bone {before}, or start a new run with another --out, and --init-weights if you want its "
            "weights",
        )


def _refuse_older_rules(saved: dict[str, Any], here: dict[str, Any], *, where: str) -> None:
    """Check that a run has the normalization of new runs, which `run.json` does not name, and all their settings."""
    normalization = saved.get("preprocessing", {}).get("normalization", NORMALIZATION)
    before, now = saved["config"], here["config"]
    older = [] if normalization == NORMALIZATION else [f"normalization {normalization}"]
    older += [f"no {setting_name(TrainConfig, name)}" for name in _changed(before, now) if name not in before]
    if older:
        raise CheckpointError(
            f"{where}: belongs to a run of an older wds_bone, which had another normalization or fewer settings",
            expected=f"normalization {NORMALIZATION}, all settings that affect the result",
            got=", ".join(older),
            do="start a new run with another --out; to begin with the weights of this one, add --init-weights with "
            f"its {BEST_NAME}, if it has one, --model {before['model']} and {head_settings(HeadShape.of(before))}",
        )


def _read_provenance(path: Path) -> dict[str, Any]:
    try:
        provenance = dict(json.loads(path.read_bytes()))
        if not isinstance(provenance["config"], dict):
            raise TypeError("its config is not a mapping")
        provenance["versions"]["wds_bone"]
        provenance["samples"]["train"]
        return provenance | {"history": list(provenance.get("history", []))}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: is damaged",
            expected="the description of a run that `wds-bone train` wrote",
            got=f"{type(error).__name__}: {error}",
            do="use another --out, or move that file; the checkpoints next to it contain the same description",
        ) from error
