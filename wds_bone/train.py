"""Train a model on shards: `wds-bone train`; with several processes `torchrun ... -m wds_bone.train`.

In: shards and settings.
Out: a folder with `config.toml`, `run.json`, `metrics.jsonl`, `learning_curve.png`, `last.pt`, `best.pt` and
`predictions.csv`.
Invariant: running the same command again continues the run, with any number of processes.
"""

if __name__ == "__main__":
    from wds_bone.__main__ import start

    start("train")

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path

import torch

from wds_bone.command_line import parse_config, run_command
from wds_bone.commands import TRAIN
from wds_bone.distributed.launch import open_ranks, report_errors_once
from wds_bone.distributed.memory import memory_errors
from wds_bone.distributed.ranks import Ranks
from wds_bone.figure_style import figure_as_png
from wds_bone.interrupt import Interruption
from wds_bone.learn.assemble import assemble_run, open_streams, provenance_of, shared_provenance
from wds_bone.learn.boards import BOARD_NAMES, Board, TensorBoard, open_boards, refuse_missing_wandb
from wds_bone.learn.budget import REMEDY, memory_settings
from wds_bone.learn.dry_run import dry_run
from wds_bone.learn.folder import (
    RUN_FILES,
    claim_folder,
    describe_changes,
    find_checkpoint,
    load_own_checkpoint,
)
from wds_bone.learn.leak import leak_text
from wds_bone.learn.loop import augmented, train
from wds_bone.learn.messages import changes_text, closing_text, opening_text
from wds_bone.learn.metrics_log import MetricsLog
from wds_bone.learn.run import Progress, Run
from wds_bone.learn.settings import TrainConfig, make_recipe, resolve_config
from wds_bone.learn.snapshot import restore_snapshot
from wds_bone.objects.access import allow_redirects_to
from wds_bone.paths import refuse_unusable_folder
from wds_bone.report.figures import draw_scatter
from wds_bone.report.learning_curve import draw_learning_curve
from wds_bone.report.metrics import summarize
from wds_bone.storage.lock import folder_lock


def main(argv: Sequence[str] | None = None) -> int:
    """Train, and return the exit code: 0, 2 after an error that the user can fix, 128 + n after signal n."""
    parse = partial(parse_config, TrainConfig, argv, TRAIN)
    return run_command(TRAIN, parse=lambda: report_errors_once(parse), run=run_training)


def run_training(config: TrainConfig, interruption: Interruption) -> int:
    """Start or resume the run that `config` describes, train, and print how it ended; return the exit code.

    Raises:
        Interrupted: if a signal arrives before the first step.
        WdsBoneError: if settings, shards or checkpoints do not match, or training cannot continue.
    """
    allow_redirects_to(config.allow_host or ())
    given, config = config, report_errors_once(lambda: resolve_config(config))
    device, timeout_seconds = torch.device(config.device), config.timeout_seconds
    with (
        open_ranks(device, timeout_seconds=timeout_seconds, interruption=interruption) as ranks,
        _memory_errors(config),
        ExitStack() as stack,
    ):
        if ranks.is_first:
            refuse_unusable_folder(config.out, files=RUN_FILES, folders=BOARD_NAMES)
            refuse_missing_wandb(config.wandb)
        if ranks.is_first and not config.dry_run:
            stack.enter_context(folder_lock(config.out, "train", files=RUN_FILES))
        run, progress = _open_run(config, ranks, stack)
        if config.dry_run:
            _print(dry_run(run, progress), ranks)
            return 0
        with interruption.deferred():
            progress = _train(run, progress, interruption, given=given)
    _print(closing_text(run, progress, signal_number=interruption.signal_number), ranks)
    return interruption.exit_code


def _open_run(config: TrainConfig, ranks: Ranks, stack: ExitStack) -> tuple[Run, Progress]:
    """Open the streams, build the model, and restore the checkpoint if the run is to be resumed."""
    streams = open_streams(config, ranks)
    for stream in streams:
        stack.enter_context(stream)
    warning = leak_text(streams[0].table, streams[1].table)
    if ranks.is_first and warning:
        print(warning, file=sys.stderr)  # noqa: T201
    recipe = make_recipe(config, num_samples=streams[0].num_samples, world_size=ranks.world_size)
    provenance = provenance_of(recipe.config, *streams)
    ranks.refuse_disagreement(shared_provenance(provenance, recipe))
    checkpoint = find_checkpoint(config.out, config.resume) if ranks.is_first else None
    is_new = not ranks.any(checkpoint is not None)
    run = assemble_run(recipe, streams, provenance, ranks=ranks, is_new=is_new)
    return run, Progress() if is_new else _resume(run, checkpoint)


def _resume(run: Run, checkpoint: Path | None) -> Progress:
    """Restore the run; a separate function, so that the loaded copy is freed before training begins."""
    contents = load_own_checkpoint(checkpoint, run.provenance, run.ranks)
    if run.ranks.is_first and (changes := describe_changes(contents, run.provenance)):
        print(changes_text(changes), file=sys.stderr)  # noqa: T201
    return restore_snapshot(run, contents)


def _train(run: Run, progress: Progress, interruption: Interruption, *, given: TrainConfig) -> Progress:
    if not run.ranks.is_first:
        return train(run, progress, log=None, interruption=interruption)
    claim_folder(run.config.out, run.provenance, step=progress.step, world_size=run.ranks.world_size)
    _print(opening_text(run, progress, given=given), run.ranks)
    with _open_log(run, progress) as log, run.clock.running():
        return train(run, progress, log=log, interruption=interruption)


@contextmanager
def _open_log(run: Run, progress: Progress) -> Iterator[MetricsLog]:
    config = run.config
    with (
        open_boards(config.out, step=progress.step, project=config.wandb, settings=run.provenance["config"]) as boards,
        MetricsLog(
            config.out,
            progress=progress,
            num_steps=run.last_step,
            elapsed_seconds=run.clock.elapsed_seconds(),
            boards=boards,
            draw_predictions=lambda predictions: draw_scatter(predictions, summarize(predictions)),
            draw_curve=lambda lines: figure_as_png(draw_learning_curve(lines)),
        ) as log,
    ):
        if progress.step == 0:
            _show_inputs(run, boards)
        yield log


def _show_inputs(run: Run, boards: list[Board]) -> None:
    """Show the first batch as the model receives it, in TensorBoard only: films stay on this machine."""
    for board in boards:
        if isinstance(board, TensorBoard):
            board.show_films(
                "augmented inputs", augmented(run.learner, run.train_stream[0], run.recipe, step=0).clamp(0, 1)
            )


def _print(text: str, ranks: Ranks) -> None:
    if ranks.is_first:
        print(text, flush=True)  # noqa: T201


def _memory_errors(config: TrainConfig) -> AbstractContextManager[None]:
    do = REMEDY if config.device == "cpu" else f"{REMEDY}; or use --device cpu"
    return memory_errors(config.device, got=memory_settings(config), do=do)
