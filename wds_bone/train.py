"""`python -m wds_bone.train`: shards -> a trained model in a run folder; under `torchrun`, by many processes.

In come shards and settings, out goes a folder with `config.toml`, `run.json`, `metrics.jsonl`, `last.pt` and `best.pt`.
The invariant: the same command run again continues where the last one stopped, with any number of processes.
"""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import torch
from matplotlib.figure import Figure

from wds_bone.config import parse_config, run_command
from wds_bone.distributed.interrupt import Interruption
from wds_bone.distributed.launch import LAUNCHER_SECONDS, is_launched, open_ranks, say_once
from wds_bone.distributed.memory import memory_errors
from wds_bone.distributed.ranks import Ranks
from wds_bone.learn.assemble import assemble_run, describe_lockstep, describe_run, open_stream, settle_config
from wds_bone.learn.folder import claim_folder, find_checkpoint, load_own_checkpoint
from wds_bone.learn.journal import Journal
from wds_bone.learn.loop import augmented_inputs, train
from wds_bone.learn.rehearse import rehearse
from wds_bone.learn.run import Progress, Run
from wds_bone.learn.settings import TrainConfig, resolve_config
from wds_bone.learn.snapshot import restore_snapshot
from wds_bone.learn.validate import Predictions
from wds_bone.learn.words import closing_text, opening_text
from wds_bone.report.figures import draw_scatter
from wds_bone.report.metrics import summarize

PROG = "python -m wds_bone.train"
DESCRIPTION = "Train a bone age model on shards; the same command again goes on where it stopped."


def main(argv: Sequence[str] | None = None) -> int:
    """Train, and return the exit code: 0, 2 after an error, 130 or 143 after a signal."""
    return run_command(
        lambda: run_training(say_once(lambda: parse_config(TrainConfig, argv, prog=PROG, description=DESCRIPTION)))
    )


def run_training(config: TrainConfig) -> int:
    """Open what `config` names, begin or go on, train, and say how it ended.

    Raises:
        WdsBoneError: settings, shards or checkpoints that do not fit, or a training that cannot go on.
    """
    config = say_once(lambda: resolve_config(config))
    with ExitStack() as stack:
        # Outside of the ranks: while they find out who failed, the launcher tells them to stop.
        repeats_seconds = LAUNCHER_SECONDS if is_launched() else 0.0
        interruption = stack.enter_context(Interruption(repeats_seconds=repeats_seconds))
        ranks = stack.enter_context(open_ranks(torch.device(config.device), timeout_seconds=config.timeout_seconds))
        stack.enter_context(_memory_errors(config))
        train_stream = stack.enter_context(open_stream(config, "train", ranks))
        config = settle_config(config, train_stream)
        val_stream = stack.enter_context(open_stream(config, "val", ranks))
        description = describe_run(config, train_stream, val_stream)
        ranks.refuse_disagreement(describe_lockstep(description))
        checkpoint = find_checkpoint(config.out, config.resume) if ranks.is_first else None
        resuming = ranks.any(checkpoint is not None)
        run = assemble_run(config, train_stream, val_stream, description, ranks=ranks, fresh=not resuming)
        progress = _resume(run, checkpoint) if resuming else Progress()
        if config.dry_run:
            _say(rehearse(run, progress), ranks)
            return 0
        if ranks.is_first:
            claim_folder(config.out, description)
        _say(opening_text(run, config, progress), ranks)
        journal = stack.enter_context(_open_journal(run, progress)) if ranks.is_first else None
        progress = train(run, progress, journal=journal, interruption=interruption)
    _say(closing_text(run, progress), ranks)
    return interruption.exit_code


def _resume(run: Run, checkpoint: Path | None) -> Progress:
    """Restore the run; a function of its own so that the loaded copy is gone before training begins."""
    return restore_snapshot(run, load_own_checkpoint(checkpoint, run.origin, run.ranks))


def _open_journal(run: Run, progress: Progress) -> Journal:
    def draw(predictions: Predictions) -> Figure:
        return draw_scatter(predictions, summarize(predictions))

    journal = Journal(run.folder, progress=progress, num_steps=run.recipe.num_steps, draw_predictions=draw)
    if progress.step == 0:
        journal.write_inputs(lambda: augmented_inputs(run))
    return journal


def _say(text: str, ranks: Ranks) -> None:
    if ranks.is_first:
        print(text, flush=True)  # noqa: T201


def _memory_errors(config: TrainConfig) -> AbstractContextManager[None]:
    pixels = "as stored" if config.image_size is None else f"{config.image_size} pixels"
    return memory_errors(
        config.device,
        got=f"--model {config.model}, --batch-size {config.batch_size}, images {pixels}",
        do="give --set accumulate=2, or a smaller --batch-size or --image-size with another --out, or --device cpu",
    )


if __name__ == "__main__":
    sys.exit(main())
