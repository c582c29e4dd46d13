"""The messages at the start and at the end of a training run.

In: a run.
Out: text.
Invariant: the settings are printed as options that can be pasted into a command line.
"""

import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

from wds_bone.config import assignment, config_as_json, options_of, setting_name
from wds_bone.learn.metrics import constant_error
from wds_bone.learn.run import Progress, Run
from wds_bone.learn.settings import TrainConfig
from wds_bone.learn.snapshot import BEST_NAME, LAST_NAME

_DEFAULTS = {field.name: field.default for field in fields(TrainConfig)}


def opening_text(run: Run, progress: Progress) -> str:
    """Return the settings as a command line, and a summary of the run."""
    typed = [_as_typed(name, value) for name, value in config_as_json(run.config).items() if value is not None]
    size = f"{run.learner.preprocessing.width} x {run.learner.preprocessing.height} pixels"
    counts = f"{run.train_stream.num_samples:,} training and {run.val_stream.num_samples:,} validation samples"
    start = f"resuming after step {progress.step}" if progress.step else "starting"
    processes = f"; {run.ranks.world_size} processes" if run.ranks.world_size > 1 else ""
    return f"{' '.join(filter(None, typed))}\n{counts}, {size}, {run.recipe.num_steps} steps; {start}{processes}"


def closing_text(run: Run, progress: Progress) -> str:
    """Return how a run ended, and the paths of its checkpoints."""
    last, best = run.config.out / LAST_NAME, run.config.out / BEST_NAME
    saved = f"checkpoint {last}" if last.exists() else "no checkpoint yet"
    text = f"{_ending(run, progress)} after step {progress.step} of {run.recipe.num_steps}; {saved}"
    if progress.best_mae_months is None:
        return f"{text}; {_unvalidated_text(last)}"
    result = f"{progress.best_mae_months:,.2f} months after epoch {progress.best_epoch}"
    result += f"; {best}" if best.exists() else ""
    constant_months = constant_error(run.train_stream.ages_months, run.val_stream.ages_months)
    if progress.best_mae_months < constant_months:
        return f"{text}\nbest validation MAE {result}"
    return (
        f"{text}\nthe model is worse than the constant predictor, whose validation MAE is {constant_months:.2f} months:"
        f" {result}\nstart again with another --out, and more --epochs or a lower --lr"
    )


def changes_text(changes: list[str]) -> str:
    """Return the warning that a resumed run may compute different numbers than before."""
    return f"warning: changed since the checkpoint was saved: {', '.join(changes)}; the results may differ slightly"


def _ending(run: Run, progress: Progress) -> str:
    if progress.step >= run.recipe.num_steps:
        return "finished"
    epochs = "1 epoch" if run.config.patience == 1 else f"{run.config.patience} epochs"
    return f"finished, {epochs} without improvement," if run.is_finished(progress) else "stopped"


def _unvalidated_text(last: Path) -> str:
    """Return which checkpoint of a run to use before its first validation."""
    use = f", so there is no {BEST_NAME}: use {last} to predict or evaluate" if last.exists() else ""
    return f"not validated yet{use}"


def _as_typed(name: str, value: Any) -> str:
    """Return a setting as typed; empty for a flag that is off, or a setting without a flag that has its default."""
    typed = setting_name(TrainConfig, name)
    if not options_of(TrainConfig)[name].flag:
        return assignment(TrainConfig, name, value) if value != _DEFAULTS[name] else ""
    if isinstance(value, bool):
        return typed if value else ""
    return shlex.join([typed, *(value if isinstance(value, list) else [str(value)])])
