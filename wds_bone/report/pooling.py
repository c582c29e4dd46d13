"""Pool the predictions of the runs of a cross-validation.

In: the folders of the runs, one per fold.
Out: one table of predictions, each of them by a model that was not trained on that sample.
Invariant: every sample of the training split is in the table once, or the runs are refused.
"""

import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wds_bone.config import assignment, options_of
from wds_bone.errors import CheckpointError, ConfigError
from wds_bone.inference.predictions import PREDICTIONS_NAME, Predictions, read_predictions
from wds_bone.learn.folder import CONFIG_NAME, without_derived
from wds_bone.learn.metrics import absolute_errors
from wds_bone.learn.settings import TrainConfig
from wds_bone.model.checkpoint import BEST_NAME, load_checkpoint

_PROVENANCE = (
    "config",
    "versions",
    "progress",
    "samples",
    "order_digests",
    "train_median_months",
    "predictions_sha256",
)
_STOPS = ("max_steps", "patience")
"""Settings that may change when a run is resumed, but decide how long it trains."""


@dataclass(frozen=True)
class Fold:
    """The run of one fold.

    Attributes:
        folder: the folder of the run.
        provenance: what its `best.pt` says about the run; no weights.
        predictions: the predictions of that model for the samples of its fold.
    """

    folder: Path
    provenance: dict[str, Any]
    predictions: Predictions

    @property
    def number(self) -> int:
        """The number of the fold, from 0."""
        return int(self.provenance["config"]["fold"])

    def describe(self) -> dict[str, Any]:
        """Return a description of the run and its error, in plain JSON types."""
        errors_months = absolute_errors(self.predictions.predicted_months, self.predictions.age_months)
        return {"fold": self.number, "mae_months": float(errors_months.mean()), **self.provenance}


def read_folds(folders: Sequence[Path]) -> list[Fold]:
    """Return the runs of a cross-validation, in the order of the folds.

    Raises:
        CheckpointError: if a folder has no `best.pt`, or not the predictions of that model.
        ConfigError: if a run is not a fold, if a fold is missing or given twice, or if the runs differ in their
            settings, their version or their samples.
        WdsBoneError: if the predictions of a run cannot be read.
    """
    folds = [_read_fold(folder) for folder in folders]
    for fold in folds:
        _refuse_other_settings(fold, folds[0])
        _refuse_other_origin(fold, folds[0])
    _refuse_incomplete([fold.number for fold in folds], num_folds=folds[0].provenance["config"]["folds"])
    _refuse_repeated_keys(folds)
    return sorted(folds, key=lambda fold: fold.number)


def pool_predictions(folds: Sequence[Fold]) -> Predictions:
    """Return the predictions of all folds as one table, fold after fold."""
    parts = [fold.predictions for fold in folds]
    return Predictions(
        [key for part in parts for key in part.key],
        np.concatenate([part.gender for part in parts]),
        np.concatenate([part.age_months for part in parts]),
        np.concatenate([part.predicted_months for part in parts]),
    )


def _read_fold(folder: Path) -> Fold:
    best, path = folder / BEST_NAME, folder / PREDICTIONS_NAME
    contents = load_checkpoint(best)
    if contents["config"].get("fold") is None:
        do = "pool runs of `wds-bone train --folds 5 --fold 0`, --fold 1 and so on"
        raise ConfigError(f"{folder}: is not a fold of a cross-validation", expected="--folds and --fold", do=do)
    if "predictions_sha256" not in contents:
        do = "train all folds again with this version, each with a new --out"
        raise CheckpointError(f"{best}: is of an earlier version, which did not keep its predictions", do=do)
    predictions = read_predictions(path)
    expected, got = contents["predictions_sha256"], hashlib.sha256(path.read_bytes()).hexdigest()
    if expected != got:
        raise CheckpointError(
            f"{path}: was not predicted by the {BEST_NAME} next to it, or has changed",
            expected=f"sha256 {expected}",
            got=f"sha256 {got}",
            do=f"copy both files again from where the run was trained; or {_train_again(folder)}",
        )
    return Fold(folder, {name: contents[name] for name in _PROVENANCE}, predictions)


def _train_again(folder: Path) -> str:
    """Return how to train a fold again; in its own folder, a finished run would write nothing."""
    new, config = shlex.quote(f"{folder}-again"), folder / CONFIG_NAME
    if not config.exists():
        return "train this fold again with a new --out, and use that run"
    return f"run `wds-bone train --config {shlex.quote(str(config))} --out {new}`, and use --runs with {new} instead"


def _refuse_other_settings(fold: Fold, first: Fold) -> None:
    """Check that a run has the settings of the first run, except for the number of its fold."""
    before, now = _shared_settings(first.provenance), _shared_settings(fold.provenance)
    names = [name for name in now if before[name] != now[name]]
    if names:
        raise ConfigError(
            f"{fold.folder}: differs from the first run in more than its fold",
            expected=", ".join(assignment(TrainConfig, name, before[name]) for name in names),
            got=", ".join(assignment(TrainConfig, name, now[name]) for name in names),
            do="train all folds with the same settings",
        )


def _shared_settings(provenance: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that all folds share; those that were derived, such as from the number of steps, are None."""
    config, known = without_derived(provenance), options_of(TrainConfig)
    fixed = {name for name, option in known.items() if not option.may_change and not option.may_differ}
    return {name: config.get(name) for name in known if name in fixed.union(_STOPS) - {"fold"}}


def _refuse_other_origin(fold: Fold, first: Fold) -> None:
    """Check that a run is of the same version as the first run, and divided as many samples into folds."""
    before, now = (
        f"wds_bone {provenance['versions']['wds_bone']}, {sum(provenance['samples'].values()):,} samples"
        for provenance in (first.provenance, fold.provenance)
    )
    if before != now:
        do = "train all folds with the same version of wds_bone on the same shards"
        raise ConfigError(f"{fold.folder}: differs from the first run", expected=before, got=now, do=do)


def _refuse_incomplete(numbers: Sequence[int], *, num_folds: int) -> None:
    """Check that every fold occurs exactly once."""
    expected, got = f"each fold from 0 to {num_folds - 1} once", f"folds {', '.join(map(str, sorted(numbers)))}"
    if missing := sorted(set(range(num_folds)).difference(numbers)):
        do = f"train and add {', '.join(f'--fold {number}' for number in missing)}"
        raise ConfigError("--runs: a part of the cross-validation is missing", expected=expected, got=got, do=do)
    if len(numbers) > num_folds:
        raise ConfigError("--runs: a fold is given twice", expected=expected, got=got, do="name each run once")


def _refuse_repeated_keys(folds: Sequence[Fold]) -> None:
    """Check that no sample is in two folds; with equal totals, every sample is then in one."""
    of_key = dict[str, Fold]()
    for fold in folds:
        for key in fold.predictions.key:
            if (other := of_key.setdefault(key, fold)) is not fold:
                raise ConfigError(
                    f"{fold.folder / PREDICTIONS_NAME}: has a sample that is also in another fold",
                    expected="each sample in one fold",
                    got=f"{key!r} also in {other.folder / PREDICTIONS_NAME}",
                    do="train all folds on the same shards",
                )
