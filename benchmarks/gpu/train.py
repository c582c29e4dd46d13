"""Does a training of some minutes on a GPU learn, and does its evaluation agree?

Command:   python -m benchmarks.gpu.train [--images FOLDER] [--seconds 480]
Method:    the default model of the device, on the carried films, or on synthetic hands of 256 pixels. A few steps are
           timed first; then `wds-bone train` gets as many epochs as fit, and `wds-bone evaluate` follows.
Machine:   one CUDA GPU; with `--device cpu` a small model on 64 pixels for a few seconds.
Result:    gpu-train-<device>.json: the lines of `metrics.jsonl`, and those of the evaluation's `metrics.json`.
"""

import gc
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.gpu.carry import stored_size
from benchmarks.gpu.inputs import write_set
from benchmarks.gpu.limited import run_limited
from benchmarks.gpu.report import Options, Report, run_part
from wds_bone.distributed.ranks import Ranks
from wds_bone.learn.assemble import assemble_run, open_streams
from wds_bone.learn.dry_run import time_steps, time_validation
from wds_bone.learn.loop import train_step
from wds_bone.learn.settings import TrainConfig, make_recipe, resolve_config

NUM_HANDS, HAND_PIXELS = 8000, 256
SMALL_NUM_HANDS, SMALL_PIXELS, SMALL_SECONDS = 40, 64, 0.5
SMALL_MODEL = "shufflenet_v2_x0_5"
EVALUATION_SECONDS = 45.0
"""For the evaluation, and because a training slows down while others use the machine."""
FREE_FRACTION = 0.75
"""Of the time for the training; the rest is for its start, its checkpoints and its figures."""
MAX_DIFFERENCE_MONTHS = 0.3
"""Between the mean errors of a validation, which may be in bf16, and an evaluation, which is in fp32."""
MAX_EPOCHS = 300


def fitting_epochs(config: TrainConfig, *, seconds: float) -> int:
    """Return how many epochs, with their validations, fit into some seconds."""
    ranks, config = Ranks(device=torch.device(config.device)), resolve_config(config)
    with ExitStack() as stack:
        streams = open_streams(config, ranks)
        train, val = (stack.enter_context(stream) for stream in streams)
        recipe = make_recipe(config, num_samples=train.num_samples, world_size=1)
        run = assemble_run(recipe, (train, val), {}, ranks=ranks, is_new=True)
        batches = train.endless()
        train_step(run.learner, next(batches), step=0, recipe=recipe, ranks=ranks)
        steps_per_epoch = train.num_samples / config.batch_size
        epoch_seconds = steps_per_epoch * time_steps(run, batches, first=1) + time_validation(run)
    return max(1, min(MAX_EPOCHS, int(seconds / epoch_seconds)))


def train(shards: Path, folder: Path, options: Options, report: Report) -> None:
    """Train for the time that is left, and report the metrics; an error if the training failed."""
    seconds = SMALL_SECONDS if options.is_small else report.seconds_left - EVALUATION_SECONDS
    model = SMALL_MODEL if options.is_small else "auto"
    epochs = fitting_epochs(
        TrainConfig(train=(str(shards),), out=folder, model=model, device=options.device),
        seconds=seconds * FREE_FRACTION,
    )
    gc.collect()
    torch.cuda.empty_cache()  # the training below is another process
    argv = ["--train", str(shards), "--out", str(folder), "--model", model, "--device", options.device]
    log_every = "1" if options.is_small else "20"
    command = [sys.executable, "-m", "wds_bone.train", *argv, "--epochs", str(epochs), "--log-every", log_every]
    ended = run_limited(command, seconds=report.seconds_left - EVALUATION_SECONDS / 2)
    metrics = folder / "metrics.jsonl"
    lines = [json.loads(line) for line in metrics.read_text().splitlines()] if metrics.exists() else []
    report.add(epochs=epochs, train_seconds=ended.seconds, **summarize(lines), metrics=lines)
    if ended.exit_code != 0:
        report.add_error(f"wds-bone train: exit code {ended.exit_code}: {' | '.join(ended.tail[-5:])}")


def summarize(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the validation with the lowest error, that of `best.pt`, and medians over the steps."""
    steps = [line for line in lines if "loss" in line]
    names = ("images_per_second", "wait_fraction", "device_peak_bytes")
    medians = {name: median(line[name] for line in steps) for name in names if steps and name in steps[0]}
    validations = [line for line in lines if "val_mae_months" in line]
    return medians | {"validation": min(validations, key=lambda line: line["val_mae_months"], default=None)}


def evaluate(shards: Path, run: Path, folder: Path, options: Options, report: Report) -> None:
    """Evaluate the best checkpoint on the validation split, and report its metrics."""
    argv = ["--checkpoint", str(run / "best.pt"), "--shards", str(shards), "--split", "val", "--out", str(folder)]
    command = [sys.executable, "-m", "wds_bone.evaluate", *argv, "--device", options.device]
    ended = run_limited(command, seconds=report.seconds_left)
    if ended.exit_code != 0:
        report.add_error(f"wds-bone evaluate: exit code {ended.exit_code}: {' | '.join(ended.tail[-5:])}")
        return
    report.add(evaluation=json.loads((folder / "metrics.json").read_text()))
    for error in compare(report.contents["validation"], report.contents["evaluation"], must_learn=not options.is_small):
        report.add_error(error)


def compare(validation: dict[str, Any], evaluation: dict[str, Any], *, must_learn: bool) -> Iterator[str]:
    """Yield what is wrong with a training.

    Args:
        validation: the line of `metrics.jsonl` for the best validation.
        evaluation: the `metrics.json` of the evaluation of the same checkpoint on the same samples.
        must_learn: whether the model must be better than the best constant.
    """
    trained, evaluated = validation["val_mae_months"], evaluation["errors"]["all"]["mae_months"]
    if not abs(evaluated - trained) <= MAX_DIFFERENCE_MONTHS:
        yield f"the evaluation has a mean error of {evaluated:.3f} months, the validation one of {trained:.3f}"
    constant = validation["constant_mae_months"]
    if must_learn and not trained < constant:
        yield f"the model has a mean error of {trained:.2f} months, the best constant one of {constant:.2f}"


def measure(options: Options, report: Report) -> None:
    """Write the shards, train and evaluate."""
    size, num_hands = (SMALL_PIXELS, SMALL_NUM_HANDS) if options.is_small else (HAND_PIXELS, NUM_HANDS)
    if options.images is not None and not options.is_small:
        size = stored_size(options.images)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shards = write_set(folder / "set", options, size=size, num_hands=num_hands)
        report.add(films="synthetic hands" if options.images is None else "carried films", image_size=size)
        train(shards, folder / "run", options, report)
        if (folder / "run" / "best.pt").exists():
            evaluate(shards, folder / "run", folder / "report", options, report)


if __name__ == "__main__":
    run_part("train", __doc__, measure)
