"""`python -m wds_bone.predict`: a checkpoint and film files -> a table of ages on standard output.

In come films of children of one gender, out goes CSV, one row per film that could be read. The invariant: a film that
cannot be read costs its own row and nothing else.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from wds_bone.config import option, parse_config, run_command
from wds_bone.distributed.hardware import Device, pick_device
from wds_bone.distributed.memory import memory_errors
from wds_bone.errors import ConfigError, WdsBoneError
from wds_bone.labels.read import Gender
from wds_bone.learn.validate import refuse_not_finite
from wds_bone.model.films import BATCH_SIZE, predict_films
from wds_bone.model.predictor import load_predictor
from wds_bone.report.predictions import csv_text, months_text, plain_cell

PROG = "python -m wds_bone.predict"
DESCRIPTION = (
    "Predict bone ages in months from radiographs of hands, as CSV on standard output. "
    "For research and teaching; not a medical device, not for diagnosis."
)
COLUMNS = ("file", "gender", "predicted_months")
FROM_STDIN = "-"
SOME_FAILED = 1


@dataclass(frozen=True)
class PredictConfig:
    """Settings of one prediction."""

    images: tuple[str, ...] = option(
        "PNG, JPEG, TIFF or DICOM files; - reads their paths from standard input, one a line",
        positional=True,
        metavar="IMAGE",
    )
    checkpoint: Path = option("best.pt or last.pt of a training run", metavar="FILE")
    gender: Gender = option("of the children in all these images; the model needs it, and it is never guessed")
    device: Device = option("where the model runs", default="auto")


def main(argv: Sequence[str] | None = None) -> int:
    """Predict, and return the exit code: 0, 1 if some films could not be read, 2 after any other error."""
    return run_command(lambda: run_prediction(parse_config(PredictConfig, argv, prog=PROG, description=DESCRIPTION)))


def run_prediction(config: PredictConfig) -> int:
    """Print the table, and the errors of films that cannot be read to standard error; return the exit code.

    Raises:
        ConfigError: there are no films, or no such device.
        CheckpointError: the checkpoint cannot be loaded.
        WdsBoneError: the device has too little memory, or a prediction is not finite.
    """
    paths = list_films(config.images, sys.stdin)
    device = pick_device(config.device)
    with memory_errors(device, got=f"{BATCH_SIZE} images at a time", do="give --device cpu"):
        return print_ages(config, paths, device=device)


def print_ages(config: PredictConfig, paths: Sequence[Path], *, device: torch.device) -> int:
    """Print the table of `paths`; return the exit code."""
    predictor = load_predictor(config.checkpoint, device=device)
    num_failed = 0
    _print(csv_text([COLUMNS]))
    for path, outcome in predict_films(predictor, paths, gender=config.gender, device=device):
        if isinstance(outcome, WdsBoneError):
            num_failed += 1
            print(f"error: {outcome}", file=sys.stderr)  # noqa: T201
        else:
            refuse_not_finite(np.array([outcome]), [str(path)], where=str(config.checkpoint))
            _print(csv_text([(plain_cell(str(path)), config.gender, months_text(outcome))]))
    return SOME_FAILED if num_failed else 0


def list_films(names: Iterable[str], lines: Iterable[str]) -> list[Path]:
    """Return the paths that `names` names, with those in `lines` in the place of "-"; empty lines are passed over.

    Raises:
        ConfigError: there is none.
    """
    listed = (lines if name == FROM_STDIN else [name] for name in names)
    paths = [Path(name) for part in listed for line in part if (name := line.rstrip("\r\n"))]
    if not paths:
        raise ConfigError("no image to predict", expected="paths of films", got="none", do="name at least one image")
    return paths


def _print(text: str) -> None:
    # A path need not be text; what is not is shown as an escape instead of ending the table.
    sys.stdout.write(text.encode("utf-8", "backslashreplace").decode())
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
