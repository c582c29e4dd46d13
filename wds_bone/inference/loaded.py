"""Predict with a checkpoint from Python.

In: a checkpoint; films and genders.
Out: arrays of ages and intervals in months.
Invariant: the numbers are those of `wds-bone predict` on the same device, to the last digit.
"""

from collections.abc import Sequence, Sized
from dataclasses import dataclass
from os import PathLike, fspath

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from wds_bone.distributed.hardware import Device, default_threads, pick_device
from wds_bone.distributed.memory import memory_errors
from wds_bone.errors import CheckpointError, ConfigError, WdsBoneError
from wds_bone.inference.ensemble import Ensemble, load_ensemble
from wds_bone.inference.films import BATCH_SIZE, Outcome, predict_films
from wds_bone.inference.predictor import Predictor
from wds_bone.inference.stored_film import FilmSource
from wds_bone.labels.values import Gender
from wds_bone.model.loss import Target
from wds_bone.model.preprocess import Preprocessing
from wds_bone.stream.device import no_cuda_error


@dataclass(frozen=True)
class LoadedModel:
    """A checkpoint that predicts the ages of films; made by `load_model`.

    Attributes:
        ensemble: the checkpoint, as an ensemble of one.
        device: the device that it predicts on.
    """

    ensemble: Ensemble
    device: torch.device

    def predict(self, films: Sequence[FilmSource], genders: Sequence[Gender]) -> NDArray[np.float32]:
        """Return the age of each child, float32 (n,), in months.

        Args:
            films: n films: paths of PNG, JPEG, TIFF or DICOM files; arrays, uint8 or uint16 (H, W), 0 black; or Pillow
                images. They need not have the size that the model was trained on.
            genders: the gender of each child, "F" or "M".

        Raises:
            ImageError: if a film cannot be read; the error is that of the first such film.
            ConfigError: if the lists do not fit together, a gender is not "F" or "M", or DICOM cannot be read here.
            WdsBoneError: if a prediction is not finite, or the memory is too small.
        """
        return np.array([outcome.months for outcome in self._outcomes(films, genders)], np.float32)

    def predict_interval(self, films: Sequence[FilmSource], genders: Sequence[Gender]) -> NDArray[np.float32]:
        """Return the lower and the upper limit of the age of each child, float32 (n, 2), in months.

        The arguments and errors are those of `predict`.

        Raises:
            CheckpointError: if the checkpoint is not calibrated.
        """
        if not self.ensemble.is_calibrated:
            raise CheckpointError(
                f"{self.ensemble.paths}: the checkpoint is not calibrated",
                expected="a checkpoint that `wds-bone calibrate` wrote",
                got="no intervals",
                do="run `wds-bone calibrate --help`, and load the file that it writes",
            )
        intervals = [outcome.interval for outcome in self._outcomes(films, genders)]
        return np.array(intervals, np.float32).reshape(-1, 2)

    @property
    def model(self) -> nn.Module:
        """The network in evaluation mode, on the device.

        It maps the output of `preprocessing.to_input`, float32 (B, 1, height, width), and genders, float32 (B,), 1 male
        and 0 female, to standardized ages, float32 (B,), which `target.to_months` converts. `predict` averages them
        over an image and its mirror image.
        """
        return self._predictor.model

    @property
    def preprocessing(self) -> Preprocessing:
        """What happens to a film before it enters the network: its stored format, its size and its gray values."""
        return self._predictor.preprocessing

    @property
    def target(self) -> Target:
        """The mean and the standard deviation of the training ages, in months."""
        return self._predictor.target

    @property
    def _predictor(self) -> Predictor:
        return self.ensemble.members[0].predictor

    def _outcomes(self, films: Sequence[FilmSource], genders: Sequence[Gender]) -> list[Outcome]:
        _check_lists(films, genders)
        do = "close other programs" if self.device.type == "cpu" else 'use device="cpu"'
        outcomes = list[Outcome]()
        with memory_errors(self.device, got=f"{BATCH_SIZE} images at a time", do=do):
            for outcome in predict_films(
                self.ensemble, films, genders, device=self.device, threads=default_threads(self.device)
            ):
                if isinstance(outcome, WdsBoneError):
                    raise outcome
                outcomes.append(outcome)
        return outcomes


def load_model(path: str | PathLike[str], device: Device = "cpu") -> LoadedModel:
    """Load a checkpoint of `wds-bone train` or `wds-bone calibrate`, to predict ages in Python.

    Args:
        path: `best.pt`, or another checkpoint.
        device: "cpu", "cuda", or "auto" for CUDA if it is available.

    Raises:
        CheckpointError: if the file is missing, damaged, or not a checkpoint.
        ConfigError: if the device is not available.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError("unknown device", expected="auto, cpu or cuda", got=repr(device), do="use one of these")
    if device == "cuda" and not torch.cuda.is_available():
        raise no_cuda_error('device="cuda"', alternative='device="cpu"')
    picked = pick_device(device)
    return LoadedModel(load_ensemble([fspath(path)], device=picked), picked)


def _check_lists(films: Sequence[FilmSource], genders: Sequence[Gender]) -> None:
    for name, given in (("films", films), ("genders", genders)):
        if isinstance(given, str | PathLike | np.ndarray | Image.Image) or not isinstance(given, Sized):
            got, do = type(given).__name__, f"use [{name}] for a single one, list({name}) for several"
            raise ConfigError(f"{name} is not a list", expected="a list, also of one", got=got, do=do)
    if len(films) != len(genders):
        got = f"{len(films):,} films, {len(genders):,} genders"
        raise ConfigError("films and genders differ in length", expected="one gender per film", got=got, do="add them")
    for number, gender in enumerate(genders):
        if not (isinstance(gender, str) and gender in ("F", "M")):
            raise ConfigError(
                f"genders[{number}] is not a gender", expected='"F" or "M"', got=repr(gender), do="use one of these"
            )
