"""What a training says when it begins and when it ends.

In comes a run, out goes text. The invariant: what is printed as settings can be typed as settings.
"""

import shlex
from dataclasses import fields
from typing import Any

from wds_bone.config import config_as_json
from wds_bone.learn.run import Progress, Run
from wds_bone.learn.settings import TrainConfig, setting_name
from wds_bone.learn.snapshot import BEST_NAME, LAST_NAME


def opening_text(run: Run, config: TrainConfig, progress: Progress) -> str:
    """Return the settings as a command line, and what there is to learn."""
    typed = [_as_typed(name, value) for name, value in config_as_json(config).items() if value is not None]
    size = f"{run.learner.preprocessing.width} x {run.learner.preprocessing.height} pixels"
    counts = f"{run.train_stream.num_samples} training and {run.val_stream.num_samples} validation samples"
    start = f"going on after step {progress.step}" if progress.step else "beginning"
    processes = f"; {run.ranks.world_size} processes" if run.ranks.world_size > 1 else ""
    return f"{' '.join(filter(None, typed))}\n{counts}, {size}, {run.recipe.num_steps} steps; {start}{processes}"


def closing_text(run: Run, progress: Progress) -> str:
    """Return how a run ended, and what it left behind."""
    last = run.folder / LAST_NAME
    kept = f"checkpoint {last}" if last.exists() else "no checkpoint yet"
    text = f"{_ending(run, progress)} after step {progress.step} of {run.recipe.num_steps}; {kept}"
    if progress.best_mae_months is None:
        return f"{text}; not validated yet"
    best = f"{progress.best_mae_months:.2f} months after epoch {progress.best_epoch}"
    kept = f"; {run.folder / BEST_NAME}" if (run.folder / BEST_NAME).exists() else ""
    return f"{text}\nbest validation MAE {best}{kept}"


def _ending(run: Run, progress: Progress) -> str:
    if progress.step >= run.recipe.num_steps:
        return "finished"
    return f"no better for {run.patience} epochs: finished" if run.is_over(progress) else "stopped"


def _as_typed(name: str, value: Any) -> str:
    """Return a setting as it is typed; nothing for a switch that is off, or a knob that is as it always is."""
    (field,) = (field for field in fields(TrainConfig) if field.name == name)
    typed = setting_name(name)
    if "is_knob" in field.metadata:
        shown = str(value).lower() if isinstance(value, bool) else value
        return f"{typed}={shown}" if value != field.default else ""
    if isinstance(value, bool):
        return typed if value else ""
    return shlex.join([typed, *(value if isinstance(value, list) else [str(value)])])
