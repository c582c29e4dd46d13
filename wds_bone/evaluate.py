"""`python -m wds_bone.evaluate`: a checkpoint and shards -> predictions, numbers and pictures in a folder.

In come the samples of one split, each once, out go `predictions.csv`, `scatter.png`, `bland_altman.png` and, last,
`metrics.json`. The invariant: what is written is a function of (checkpoint, shards, what the model was told of gender),
up to rounding, which may change with the batch size and the device.
"""

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wds_bone.config import option, parse_config, run_command
from wds_bone.distributed.hardware import Device, code_digest, default_threads, installed_versions, pick_device
from wds_bone.distributed.interrupt import Interruption
from wds_bone.distributed.launch import LAUNCHER_SECONDS, is_launched, open_ranks, say_once
from wds_bone.distributed.memory import memory_errors
from wds_bone.distributed.ranks import Ranks
from wds_bone.errors import ConfigError
from wds_bone.learn.validate import Predictions, predict_epoch, refuse_not_finite
from wds_bone.model.checkpoint import load_checkpoint
from wds_bone.model.predictor import restore_predictor
from wds_bone.report.evaluation import (
    Told,
    describe_checkpoint,
    describe_shards,
    tell_genders,
    write_evaluation,
)
from wds_bone.report.metrics import describe_constant, summarize, summary_table
from wds_bone.stream.stream import BoneAgeStream

PROG = "python -m wds_bone.evaluate"
DESCRIPTION = "Predict every sample of a split once, and write predictions, numbers and pictures."
TIMEOUT_SECONDS = 300.0


@dataclass(frozen=True)
class EvaluateConfig:
    """Settings of one evaluation."""

    checkpoint: Path = option("best.pt or last.pt of a training run", metavar="FILE")
    shards: tuple[str, ...] = option("a manifest, a folder or tars (brace patterns, globs)", metavar="URL")
    out: Path = option("folder for the results; those of an earlier evaluation are replaced", metavar="FOLDER")
    split: str | None = option("which split of a folder or manifest", default=None, metavar="NAME")
    batch_size: int = option(
        "images at a time, of each process; the predictions depend on it by rounding only", default=64, metavar="N"
    )
    threads: int | None = option(
        "that decode images (default: 1 on a CPU, else one per core)", default=None, metavar="N"
    )
    device: Device = option("where the model runs", default="auto")
    gender: Told = option(
        "what the model is told: the true genders, the same shuffled over the samples, or each one swapped",
        default="true",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate, and return the exit code: 0, 2 after an error the user can mend, 130 or 143 after a signal."""
    return run_command(
        lambda: run_evaluation(say_once(lambda: parse_config(EvaluateConfig, argv, prog=PROG, description=DESCRIPTION)))
    )


def run_evaluation(config: EvaluateConfig) -> int:
    """Predict, write the results, print what they are, and return the exit code; a signal ends it with no results.

    Raises:
        WdsBoneError: settings, checkpoint or shards that do not fit, or a disk that refuses.
    """
    device = say_once(lambda: pick_device(config.device))
    with (
        Interruption(repeats_seconds=LAUNCHER_SECONDS if is_launched() else 0.0) as interruption,
        open_ranks(device, timeout_seconds=TIMEOUT_SECONDS) as ranks,
    ):
        contents = load_checkpoint(config.checkpoint)
        if ranks.is_first:
            make_folder(config.out)
        predictions, shards = predict_shards(config, contents, ranks, interruption)
        if ranks.is_first and predictions is not None:
            write_results(config, contents, predictions, shards)
    return interruption.exit_code


def write_results(
    config: EvaluateConfig, contents: dict[str, Any], predictions: Predictions, shards: dict[str, Any]
) -> None:
    """Write the files of the evaluation, and print what they say."""
    metrics = {
        "errors": summarize(predictions),
        "constant": describe_constant(predictions, train_median_months=contents["train_median_months"]),
        "told_gender": config.gender,
        "shards": shards,
        "checkpoint": describe_checkpoint(contents, sha256=file_sha256(config.checkpoint)),
        "versions": installed_versions(),
    }
    paths = write_evaluation(config.out, predictions, metrics)
    print_results(metrics, paths)


def predict_shards(
    config: EvaluateConfig, contents: dict[str, Any], ranks: Ranks, interruption: Interruption
) -> tuple[Predictions | None, dict[str, Any]]:
    """Return the predictions, all of them finite, and what they were made of; every rank gets all.

    None for the predictions after a signal.

    Raises:
        WdsBoneError: shards that do not fit, or predictions that are not finite.
    """
    too_large = {"got": f"--batch-size {config.batch_size}", "do": "give a smaller --batch-size, or --device cpu"}
    with memory_errors(ranks.device, **too_large):
        predictor = restore_predictor(contents, device=ranks.device)
        with open_stream(config, ranks) as stream:
            predictor.preprocessing.refuse_other_format(stream.image_format, where=", ".join(config.shards))
            ranks.refuse_disagreement(describe_lockstep(config, stream))
            predictions = predict_epoch(
                predictor,
                stream,
                ranks,
                told_gender=tell_genders(stream, config.gender),
                give_up=lambda: ranks.any(interruption.signal_number is not None),
            )
            shards = describe_shards(stream, split=config.split)
    if predictions is not None:
        refuse_not_finite(predictions.predicted_months, predictions.key, where=str(config.checkpoint))
    return predictions, shards


def open_stream(config: EvaluateConfig, ranks: Ranks) -> BoneAgeStream:
    """Open this rank's rows of the samples to evaluate, in the order of the shards.

    Each rank takes as many images at a time as a single process would, and the same ones together, so that they round
    alike.
    """
    return BoneAgeStream(
        config.shards,
        batch_size=config.batch_size * ranks.world_size,
        rank=ranks.rank,
        world_size=ranks.world_size,
        split=config.split,
        shuffle=False,
        threads=default_threads(ranks.device) if config.threads is None else config.threads,
        device=ranks.device,
    )


def describe_lockstep(config: EvaluateConfig, stream: BoneAgeStream) -> dict[str, Any]:
    """Return what all ranks must agree in before the first batch, in plain JSON types."""
    return {
        "code": code_digest(),
        "versions": installed_versions(),
        "checkpoint_sha256": file_sha256(config.checkpoint),
        "order_digest": stream.order_digest,
        "batch_size": config.batch_size,
        "gender": config.gender,
    }


def make_folder(folder: Path) -> None:
    """Make the folder of the results before the work begins.

    Raises:
        ConfigError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be made: {error.strerror}", do="give another --out") from error


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file, as `sha256sum` prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def print_results(metrics: dict[str, Any], paths: Sequence[Path]) -> None:
    """Print the numbers as a table, what the last column means, and where the results lie."""
    constant, told = metrics["constant"], metrics["told_gender"]
    table = summary_table(metrics["errors"], constant_mae_months=constant["mae_months"])
    remark = "" if told == "true" else f"The model was told {told} genders; F and M are the true ones.\n"
    baseline = "constant: MAE of always predicting the median age of the training set (for F and M, theirs)"
    print(f"{table}\n{remark}{baseline}", *paths, sep="\n")  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
