"""The messages at the start and at the end of a training run.

In: a run.
Out: text.
Invariant: the settings that were given, and no others, are printed as a command line that can be pasted; the way to
continue that is recommended does continue the run.
"""

import shlex
import signal
from dataclasses import fields
from typing import Any

from wds_bone.commands import TRAIN
from wds_bone.config import config_as_json, options_of, setting_name
from wds_bone.learn.folder import CONFIG_NAME
from wds_bone.learn.metrics import constant_error
from wds_bone.learn.run import Progress, Run
from wds_bone.learn.settings import TrainConfig
from wds_bone.model.checkpoint import BEST_NAME, LAST_NAME
from wds_bone.progress import format_duration

_BEST_IS_ELSEWHERE = "its model is in the folder of the checkpoint that was resumed"
_DEFAULTS = {field.name: field.default for field in fields(TrainConfig)}


def opening_text(run: Run, progress: Progress, *, given: TrainConfig) -> str:
    """Return the settings as a command line, what was derived from them, and a summary of the run.

    Args:
        run: the run, whose settings are resolved.
        progress: the progress from which it starts or resumes.
        given: the settings before they were resolved.
    """
    return "\n".join([_command_line(run, given), _derived_text(run, given), _summary(run, progress)])


def _command_line(run: Run, given: TrainConfig) -> str:
    command = TRAIN.name if run.ranks.world_size == 1 else "torchrun ... -m wds_bone.train"
    changed = {name for name, default in _DEFAULTS.items() if getattr(given, name) != default}
    typed = [_as_typed(name, value) for name, value in config_as_json(given).items() if name in changed]
    return " ".join([command, *typed])


def _derived_text(run: Run, given: TrainConfig) -> str:
    """Return what the machine and the shards determined, and where all settings are."""
    before, after = config_as_json(given), config_as_json(run.config)
    derived = [f"{name} {_shown(value)}" for name, value in after.items() if value != before[name]]
    return f"derived: {', '.join(derived) or 'nothing'}; all settings: {run.config.out / CONFIG_NAME}"


def _summary(run: Run, progress: Progress) -> str:
    size = f"{run.learner.preprocessing.width} x {run.learner.preprocessing.height} pixels"
    counts = f"{run.train_stream.num_samples:,} training and {run.val_stream.num_samples:,} validation samples"
    start = f"resuming after step {progress.step:,}" if progress.step else "starting"
    processes = f"; {run.ranks.world_size} processes" if run.ranks.world_size > 1 else ""
    last = f", now up to step {run.last_step:,}" if run.last_step < run.recipe.num_steps else ""
    return f"{counts}, {size}, {run.recipe.num_steps:,} steps{last}; {start}{processes}"


def closing_text(run: Run, progress: Progress, *, signal_number: int | None = None) -> str:
    """Return how a launch ended, how to continue, and the paths of the checkpoints.

    Args:
        run: the run.
        progress: how far it has come.
        signal_number: the signal that this process received; None if it received none.
    """
    lines = [_ending(run, progress, signal_number), _result(run, progress)]
    if not (run.is_finished(progress) and _is_complete(run, progress)):
        lines.append(_continuation(run, progress))
    elif not _is_better_than_constant(run, progress):
        lines.append("start again with another --out, and more --epochs or a lower --lr")
    return "\n".join(lines)


def changes_text(changes: list[str]) -> str:
    """Return the warning that a resumed run may compute different numbers than before."""
    return f"warning: changed since the checkpoint was saved: {', '.join(changes)}; the results may differ slightly"


def _ending(run: Run, progress: Progress, signal_number: int | None) -> str:
    last = run.config.out / LAST_NAME
    saved = f"checkpoint {last}" if last.exists() else "no checkpoint yet"
    elapsed = f"{format_duration(run.clock.elapsed_seconds())} of training"
    how = _how_it_ended(run, progress, signal_number)
    return f"{how} after step {progress.step:,} of {run.recipe.num_steps:,} and {elapsed}; {saved}"


def _how_it_ended(run: Run, progress: Progress, signal_number: int | None) -> str:
    if not _is_complete(run, progress):
        name = "a signal to another process" if signal_number is None else signal.Signals(signal_number).name
        return f"stopped by {name}"
    if progress.step >= run.recipe.num_steps:
        return "finished"
    if not run.is_finished(progress):
        return "stopped by --max-steps"
    epochs = "1 epoch" if run.config.patience == 1 else f"{run.config.patience} epochs"
    return f"finished, {epochs} without improvement,"


def _is_complete(run: Run, progress: Progress) -> bool:
    """Return whether the launch has done all that it was to do; a signal may have stopped its last validation."""
    return run.must_stop(progress) and not run.is_validation_due(progress)


def _result(run: Run, progress: Progress) -> str:
    """Return the error of the best model and its file, or which file to use before the first validation."""
    last, best = run.config.out / LAST_NAME, run.config.out / BEST_NAME
    if progress.best_mae_months is None:
        use = f", so there is no {BEST_NAME}: use {last} to predict or evaluate" if last.exists() else ""
        return f"not validated yet{use}"
    result = f"{progress.best_mae_months:,.2f} months after epoch {progress.best_epoch}"
    result += f"; {best if best.exists() else _BEST_IS_ELSEWHERE}"
    if _is_better_than_constant(run, progress):
        return f"best validation MAE {result}"
    constant = f"the constant predictor, whose validation MAE is {_constant_months(run):.2f} months"
    return f"the model is worse than {constant}: {result}"


def _is_better_than_constant(run: Run, progress: Progress) -> bool:
    return progress.best_mae_months is not None and progress.best_mae_months < _constant_months(run)


def _constant_months(run: Run) -> float:
    return constant_error(run.train_stream.ages_months, run.val_stream.ages_months)


def _continuation(run: Run, progress: Progress) -> str:
    """Return the command that continues the run, relative to the one that was typed."""
    changes = ["without --resume"] if run.config.resume != "auto" else []
    changes += ["with a larger or no --max-steps"] if _is_complete(run, progress) else []
    words = ["run the same command again", *changes]
    return f"{', '.join(words)}{',' if changes else ''} to continue"


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _as_typed(name: str, value: Any) -> str:
    """Return a setting as it is typed."""
    typed = setting_name(TrainConfig, name)
    if not options_of(TrainConfig)[name].flag:
        shown = str(value).lower() if isinstance(value, bool) else value
        return shlex.join(["--set", f"{name}={shown}"])
    if isinstance(value, bool):
        return typed if value else f"--no-{typed.removeprefix('--')}"
    return shlex.join([typed, *(value if isinstance(value, list) else [str(value)])])
