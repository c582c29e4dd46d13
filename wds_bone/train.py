"""`python -m wds_bone.train`: shards -> a trained model in a run folder.

In come shards and settings, out goes a folder with `run.json`, `metrics.jsonl`, `last.pt` and `best.pt`. The invariant:
the same command run again continues where the last one stopped.
"""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from wds_bone.config import config_as_json, parse_config, run_command
from wds_bone.learn.assemble import assemble_run, describe_run, open_stream, settle_config
from wds_bone.learn.folder import claim_folder, find_checkpoint, load_own_checkpoint
from wds_bone.learn.interrupt import Interruption
from wds_bone.learn.journal import Journal
from wds_bone.learn.loop import train
from wds_bone.learn.memory import memory_errors
from wds_bone.learn.run import Progress, Run
from wds_bone.learn.settings import TrainConfig, resolve_config
from wds_bone.learn.snapshot import BEST_NAME, LAST_NAME, restore_snapshot

PROG = "python -m wds_bone.train"
DESCRIPTION = "Train a bone age model on shards; the same command again goes on where it stopped."


def main(argv: Sequence[str] | None = None) -> int:
    """Train, and return the exit code: 0, 2 after an error, 130 or 143 after a signal."""
    return run_command(lambda: run_training(parse_config(TrainConfig, argv, prog=PROG, description=DESCRIPTION)))


def run_training(config: TrainConfig) -> int:
    """Open what `config` names, begin or go on, train, and say how it ended.

    Raises:
        WdsBoneError: settings, shards or checkpoints that do not fit, or a training that cannot go on.
    """
    config = resolve_config(config)
    with ExitStack() as stack:
        stack.enter_context(_memory_errors(config))
        interruption = stack.enter_context(Interruption())
        train_stream = stack.enter_context(open_stream(config, "train"))
        config = settle_config(config, train_stream)
        val_stream = stack.enter_context(open_stream(config, "val"))
        description = describe_run(config, train_stream, val_stream)
        checkpoint = find_checkpoint(config.out, config.resume)
        run = assemble_run(config, train_stream, val_stream, description, fresh=checkpoint is None)
        progress = _resume(run, checkpoint) if checkpoint else Progress()
        claim_folder(config.out, description)
        print(_opening(run, config, progress))  # noqa: T201
        journal = stack.enter_context(Journal(config.out, progress=progress, num_steps=run.recipe.num_steps))
        progress = train(run, progress, journal=journal, interruption=interruption)
    print(closing_text(run, progress))  # noqa: T201
    return interruption.exit_code


def _resume(run: Run, checkpoint: Path) -> Progress:
    """Restore the run; a function of its own so that the loaded copy is gone before training begins."""
    return restore_snapshot(run, load_own_checkpoint(checkpoint, run.origin))


def _opening(run: Run, config: TrainConfig, progress: Progress) -> str:
    values = {name: value for name, value in config_as_json(config).items() if value is not None and value is not False}
    settings = " ".join(f"--{name.replace('_', '-')} {_as_typed(value)}" for name, value in values.items())
    size = f"{run.learner.preprocessing.width} x {run.learner.preprocessing.height} pixels"
    counts = f"{run.train_stream.num_samples} training and {run.val_stream.num_samples} validation samples"
    start = f"going on after step {progress.step}" if progress.step else "beginning"
    return f"{settings}\n{counts}, {size}, {run.recipe.num_steps} steps; {start}"


def _as_typed(value: Any) -> str:
    if value is True:
        return ""
    return " ".join(value) if isinstance(value, list) else str(value)


def closing_text(run: Run, progress: Progress) -> str:
    """Return how a run ended, and what it left behind."""
    last = run.folder / LAST_NAME
    kept = f"checkpoint {last}" if last.exists() else "no checkpoint yet"
    how = "finished" if progress.step == run.recipe.num_steps else "stopped"
    text = f"{how} after step {progress.step} of {run.recipe.num_steps}; {kept}"
    if progress.best_mae_months is None:
        return f"{text}; not validated yet"
    best = f"{progress.best_mae_months:.2f} months after epoch {progress.best_epoch}"
    kept = f"; {run.folder / BEST_NAME}" if (run.folder / BEST_NAME).exists() else ""
    return f"{text}\nbest validation MAE {best}{kept}"


def _memory_errors(config: TrainConfig) -> AbstractContextManager[None]:
    pixels = "as stored" if config.image_size is None else f"{config.image_size} pixels"
    return memory_errors(
        config.device,
        got=f"--model {config.model}, --batch-size {config.batch_size}, images {pixels}",
        do="give a smaller --batch-size or --image-size with another --out, or --device cpu",
    )


if __name__ == "__main__":
    sys.exit(main())
