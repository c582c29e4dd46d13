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
    values = {name: value for name, value in config_as_json(config).items() if value is not None and value is not False}
    changed = {name: value for name, value in values.items() if not _is_untouched_knob(name, value)}
    settings = " ".join(_as_typed(setting_name(name), value) for name, value in changed.items())
    size = f"{run.learner.preprocessing.width} x {run.learner.preprocessing.height} pixels"
    counts = f"{run.train_stream.num_samples} training and {run.val_stream.num_samples} validation samples"
    start = f"going on after step {progress.step}" if progress.step else "beginning"
    processes = f"; {run.ranks.world_size} processes" if run.ranks.world_size > 1 else ""
    return f"{settings}\n{counts}, {size}, {run.recipe.num_steps} steps; {start}{processes}"


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


def _is_untouched_knob(name: str, value: Any) -> bool:
    (field,) = (field for field in fields(TrainConfig) if field.name == name)
    return "is_knob" in field.metadata and value == field.default


def _as_typed(name: str, value: Any) -> str:
    if name.startswith("--set"):
        return f"{name}={value}"
    words = [] if value is True else value if isinstance(value, list) else [str(value)]
    return " ".join([name, *map(shlex.quote, words)])
