"""Measure the errors of a model: `wds-bone evaluate`; with several processes: `torchrun ... -m wds_bone.evaluate`.

In: a checkpoint, and the samples of one split, each once.
Out: `predictions.csv`, figures as PNG and PDF and, last, `metrics.json`.
Invariant: the results are a function of (checkpoint, shards, genders given to the model), up to rounding, which depends
on the local batch size and the device.
"""

if __name__ == "__main__":
    from wds_bone.__main__ import start

    start("evaluate")

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from wds_bone.command_line import parse_config, run_command
from wds_bone.commands import EVALUATE
from wds_bone.config import check_bounds, option
from wds_bone.distributed.hardware import Device, code_digest, default_threads, installed_versions, pick_device
from wds_bone.distributed.launch import open_ranks, report_errors_once
from wds_bone.distributed.memory import memory_errors, refuse_beyond_memory
from wds_bone.distributed.ranks import Ranks
from wds_bone.inference.epoch import predict_epoch
from wds_bone.inference.predictions import Predictions, refuse_not_finite
from wds_bone.inference.predictor import Predictor, restore_predictor
from wds_bone.interrupt import Interruption
from wds_bone.model.checkpoint import load_checkpoint
from wds_bone.model.footprint import measure_forward_bytes
from wds_bone.paths import PathText, refuse_unusable_folder
from wds_bone.report.evaluation import (
    RESULT_NAMES,
    GenderInput,
    describe_checkpoint,
    describe_shards,
    override_genders,
    write_evaluation,
)
from wds_bone.report.metrics import summarize
from wds_bone.report.references import describe_references
from wds_bone.report.table import format_summary
from wds_bone.storage.lock import folder_lock
from wds_bone.storage.machine import check_count
from wds_bone.stream.settings import available_cores
from wds_bone.stream.stream import BoneAgeStream

TIMEOUT_SECONDS = 300.0


@dataclass(frozen=True)
class EvaluateConfig:
    """Settings of one evaluation."""

    checkpoint: Path = option("best.pt or last.pt of a training run", metavar="FILE")
    shards: tuple[PathText, ...] = option("labeled shards: a manifest, a folder or tars", metavar="PATH")
    out: Path = option(
        "folder for the results; results of an earlier evaluation are replaced", metavar="DIR", is_output=True
    )
    split: str | None = option("split of a folder or manifest (default: the only one)", default=None, metavar="NAME")
    local_batch_size: int = option(
        "images per forward pass of each process; affects only the rounding of the predictions", default=64, min=1
    )
    threads: int | None = option(
        "threads that decode images (default: 1 on a CPU; on a GPU one per core)", default=None, min=1
    )
    device: Device = option("device to run the model on", default="auto")
    gender: GenderInput = option(
        "genders given to the model: true, shuffled among the samples, or swapped (F and M exchanged)", default="true"
    )

    def __post_init__(self) -> None:
        check_bounds(self)


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate, and return the exit code: 0, 2 after an error that the user can fix, 128 + n after signal n."""
    parse = partial(parse_config, EvaluateConfig, argv, EVALUATE)
    return run_command(EVALUATE, parse=lambda: report_errors_once(parse), run=run_evaluation)


def run_evaluation(config: EvaluateConfig, interruption: Interruption) -> None:
    """Predict, write and print the results.

    Raises:
        Interrupted: after a signal; no results are written.
        WdsBoneError: if settings, checkpoint and shards do not match, or a file cannot be written.
    """
    device = report_errors_once(lambda: pick_device(config.device))
    report_errors_once(lambda: check_count("--threads", config.threads, cores=available_cores()))
    with open_ranks(device, timeout_seconds=TIMEOUT_SECONDS, interruption=interruption) as ranks, ExitStack() as stack:
        if ranks.is_first:
            refuse_unusable_folder(config.out, files=RESULT_NAMES)
            stack.enter_context(folder_lock(config.out, "evaluate", files=RESULT_NAMES))
        contents = load_checkpoint(config.checkpoint)
        predictions, shards = predict_shards(config, contents, ranks, interruption)
        if ranks.is_first and predictions is not None:
            _write_results(config, contents, predictions, shards)
    if predictions is None:
        interruption.check()


def predict_shards(
    config: EvaluateConfig, contents: dict[str, Any], ranks: Ranks, interruption: Interruption
) -> tuple[Predictions | None, dict[str, Any]]:
    """Return the predictions, all of them finite, and a description of the samples; every rank gets all predictions.

    After a signal, the predictions are None.

    Raises:
        WdsBoneError: if the shards do not match the checkpoint, or a prediction is not finite.
    """
    got = f"--local-batch-size {config.local_batch_size}"
    do = "use a smaller --local-batch-size" + ("" if ranks.device.type == "cpu" else ", or --device cpu")
    with memory_errors(ranks.device, got=got, do=do):
        predictor = restore_predictor(contents, device=ranks.device)
        _refuse_large_batches(predictor, ranks.device, num_images=config.local_batch_size, got=got, do=do)
        with _open_stream(config, ranks) as stream:
            predictor.preprocessing.refuse_other_format(stream.image_format, where=", ".join(config.shards))
            ranks.refuse_disagreement(_shared_description(config, stream))
            genders = override_genders(stream, config.gender)
            with interruption.deferred():
                predictions = predict_epoch(
                    predictor,
                    stream,
                    ranks,
                    gender_input=genders,
                    give_up=lambda: ranks.any(interruption.is_requested),
                )
            shards = describe_shards(stream, split=config.split)
    if predictions is not None:
        refuse_not_finite(predictions.predicted_months, predictions.key, where=str(config.checkpoint))
    return predictions, shards


def _refuse_large_batches(predictor: Predictor, device: torch.device, *, num_images: int, got: str, do: str) -> None:
    """Refuse batches that do not fit into the memory of the device; every image is predicted with its mirror image."""
    height, width = predictor.preprocessing.height, predictor.preprocessing.width
    needed = {
        "the input of the model": 3 * num_images * height * width * torch.float32.itemsize,
        "its largest layer": measure_forward_bytes(
            predictor.model, num_images=2 * num_images, height=height, width=width
        ),
    }
    refuse_beyond_memory(needed, device, got=got, do=do)


def _open_stream(config: EvaluateConfig, ranks: Ranks) -> BoneAgeStream:
    """Open the stream of this rank's samples, in the order of the shards.

    Each rank predicts whole batches of a single-process run, so that the predictions are bit for bit the same for any
    number of processes.
    """
    return BoneAgeStream(
        config.shards,
        batch_size=config.local_batch_size * ranks.world_size,
        rank=ranks.rank,
        world_size=ranks.world_size,
        split=config.split,
        shuffle=False,
        threads=default_threads(ranks.device) if config.threads is None else config.threads,
        device=ranks.device,
    )


def _shared_description(config: EvaluateConfig, stream: BoneAgeStream) -> dict[str, Any]:
    """Return what all ranks must agree on before the first batch, in plain JSON types."""
    return {
        "code": code_digest(),
        "versions": installed_versions(),
        "checkpoint_sha256": _file_sha256(config.checkpoint),
        "order_digest": stream.order_digest,
        "local_batch_size": config.local_batch_size,
        "gender": config.gender,
    }


def _write_results(
    config: EvaluateConfig, contents: dict[str, Any], predictions: Predictions, shards: dict[str, Any]
) -> None:
    metrics = {
        "errors": summarize(predictions),
        **describe_references(predictions, train_median_months=contents["train_median_months"]),
        "gender_input": config.gender,
        "shards": shards,
        "checkpoint": describe_checkpoint(contents, sha256=_file_sha256(config.checkpoint)),
        "versions": installed_versions(),
    }
    _print_results(metrics, write_evaluation(config.out, predictions, metrics))


def _file_sha256(path: Path) -> str:
    """Return the sha256 of a file, as `sha256sum` prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _print_results(metrics: dict[str, Any], paths: Sequence[Path]) -> None:
    """Print the table of errors and the paths of the results."""
    gender_input = metrics["gender_input"]
    remark = (
        "" if gender_input == "true" else f"The model was given {gender_input} genders; F and M are the true ones.\n"
    )
    print(f"{format_summary(metrics['errors'], metrics)}\n{remark}", *paths, sep="\n")  # noqa: T201
