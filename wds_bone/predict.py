"""Predict the ages of film files: `wds-bone predict`.

In: a checkpoint, and films of children of one gender.
Out: CSV on standard output, with one row per film that could be read.
Invariant: a film that cannot be read is reported and skipped; the others are still predicted.
"""

if __name__ == "__main__":
    from wds_bone.__main__ import start

    start("predict")

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from wds_bone.command_line import parse_config, run_command
from wds_bone.commands import PREDICT
from wds_bone.config import option
from wds_bone.distributed.hardware import Device, default_threads, pick_device
from wds_bone.distributed.memory import memory_errors
from wds_bone.errors import ConfigError, WdsBoneError
from wds_bone.inference.ensemble import load_ensemble
from wds_bone.inference.films import BATCH_SIZE, predict_films
from wds_bone.inference.predictions import escape_formula, format_csv, format_months
from wds_bone.labels.read import Gender
from wds_bone.paths import refuse_url

COLUMNS = ("file", "gender", "predicted_months")
FROM_STDIN = "-"
EXIT_SOME_FAILED = 1


@dataclass(frozen=True)
class PredictConfig:
    """Settings of one prediction."""

    images: tuple[str, ...] = option(
        "PNG, JPEG, TIFF or DICOM files; - reads their paths from standard input, one per line",
        positional=True,
        metavar="IMAGE",
    )
    checkpoint: Path = option("best.pt or last.pt of a training run", metavar="FILE")
    gender: Gender = option("gender of the children in all these images; required, because a gender is never guessed")
    device: Device = option("device to run the model on", default="auto")


def main(argv: Sequence[str] | None = None) -> int:
    """Predict, and return the exit code: 0, 1 if some films could not be read, 2 after another error."""
    parse = partial(parse_config, PredictConfig, argv, PREDICT)
    return run_command(PREDICT, parse=parse, run=lambda config, _: run_prediction(config))


def run_prediction(config: PredictConfig) -> int:
    """Print the table, and on standard error the errors of films that cannot be read; return the exit code.

    Raises:
        ConfigError: if there are no films, or the device is not available.
        CheckpointError: if the checkpoint cannot be loaded.
        WdsBoneError: if the device has too little memory, or a prediction is not finite.
    """
    paths, refused = list_films(config.images, sys.stdin)
    for error in refused:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
    device = pick_device(config.device)
    do = "close other programs" if device.type == "cpu" else "use --device cpu"
    with memory_errors(device, got=f"{BATCH_SIZE} images at a time", do=do):
        num_failed = print_ages(config, paths, device=device) + len(refused)
    return EXIT_SOME_FAILED if num_failed else 0


def print_ages(config: PredictConfig, paths: Sequence[Path], *, device: torch.device) -> int:
    """Print the table of predicted ages for `paths`, and return the number of films that could not be read."""
    ensemble = load_ensemble([config.checkpoint], device=device)
    genders = [config.gender] * len(paths)
    outcomes = predict_films(ensemble, paths, genders, device=device, threads=default_threads(device))
    num_failed = 0
    sys.stdout.write(format_csv([COLUMNS]))
    for path, outcome in zip(paths, outcomes, strict=True):
        if isinstance(outcome, WdsBoneError):
            num_failed += 1
            print(f"error: {outcome}", file=sys.stderr)  # noqa: T201
        else:
            sys.stdout.write(format_csv([(escape_formula(str(path)), config.gender, format_months(outcome.months))]))
    return num_failed


def list_films(names: Iterable[str], lines: Iterable[str]) -> tuple[list[Path], list[ConfigError]]:
    """Return the paths in `names`, with "-" replaced by the paths in `lines`, and an error for each URL among them.

    Empty lines are ignored. A `~` is expanded if it can be; otherwise, it is a path that does not exist, whose error
    does not end the command.

    Raises:
        ConfigError: if there are no paths.
    """
    listed = (lines if name == FROM_STDIN else [name] for name in names)
    paths = [name for part in listed for line in part if (name := line.rstrip("\r\n"))]
    if not paths:
        raise ConfigError("no films to predict", expected="paths of films", got="none", do="name at least one film")
    films, refused = list[Path](), list[ConfigError]()
    for path in paths:
        try:
            refuse_url(path, option="IMAGE")
        except ConfigError as error:
            refused.append(error)
        else:
            films.append(Path(os.path.expanduser(path)))  # noqa: PTH111  # `Path.expanduser` raises
    return films, refused
