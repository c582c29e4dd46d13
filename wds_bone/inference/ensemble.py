"""Predict ages with one or more checkpoints: an ensemble, whose prediction is the mean of its members.

In: checkpoint files, images as the shards store them, and genders.
Out: ages in months and, if all members are calibrated, intervals.
Invariant: the prediction depends neither on the order of the checkpoints nor on the other samples of a batch of the
same shape. A single checkpoint is an ensemble of one.
"""

import hashlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wds_bone.errors import CheckpointError, ConfigError
from wds_bone.inference.calibration import Calibration
from wds_bone.inference.predictor import Predictor, Views, restore_predictor
from wds_bone.model.checkpoint import read_checkpoint, read_whole
from wds_bone.model.checksum import weights_sha256
from wds_bone.shards.manifest import ImageFormat

_WEIGHTS = ("ema", "model", "optimizer")


@dataclass(frozen=True)
class Member:
    """A checkpoint of an ensemble.

    Attributes:
        predictor: its model.
        calibration: its intervals; None if it is not calibrated.
        path: its file; empty for a model that is still being trained.
        sha256: the sha256 of its file, as `sha256sum` prints it.
        contents: what else is in the file, without weights.
    """

    predictor: Predictor
    calibration: Calibration | None = None
    path: str = ""
    sha256: str = ""
    contents: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def image_format(self) -> ImageFormat:
        """The format in which its model expects stored images."""
        return self.predictor.preprocessing.image_format


@dataclass(frozen=True)
class Ensemble:
    """Checkpoints that predict together.

    Attributes:
        members: the checkpoints, in a fixed order.
    """

    members: tuple[Member, ...]

    @property
    def paths(self) -> str:
        """The files of the members, for messages."""
        return ", ".join(member.path for member in self.members)

    @property
    def sha256(self) -> str:
        """The sha256 of the file; those of several are joined by "+"."""
        return "+".join(member.sha256 for member in self.members)

    @cached_property
    def image_formats(self) -> tuple[ImageFormat, ...]:
        """The formats of stored images that the members expect, each once."""
        return tuple(dict.fromkeys(member.image_format for member in self.members))

    @property
    def is_calibrated(self) -> bool:
        """Whether predictions have intervals."""
        return all(member.calibration for member in self.members)

    def interval_warning(self) -> str | None:
        """Return a warning if predictions have no intervals although some members are calibrated; otherwise None."""
        missing = [member.path for member in self.members if member.calibration is None]
        if len(missing) in (0, len(self.members)):
            return None
        return f"warning: the predictions have no intervals, because these are not calibrated: {', '.join(missing)}"

    def refuse_other_format(self, image_format: ImageFormat, *, where: str) -> None:
        """Check that all members were trained on images of the geometry and the stretch of `image_format`.

        Raises:
            ConfigError: if one was not.
        """
        for member in self.members:
            member.predictor.preprocessing.refuse_other_format(image_format, where=where)

    def predict_members(self, image: Tensor | Mapping[ImageFormat, Tensor], gender: Tensor) -> Tensor:
        """Return the prediction of each member, without corrections.

        Args:
            image: uint8 (B, 1, H, W), as stored; or such images for each of `image_formats`.
            gender: float32 (B,), 1 male and 0 female.

        Returns:
            float32 (members, B), in months, on the same device.
        """
        images = [image if isinstance(image, Tensor) else image[member.image_format] for member in self.members]
        pairs = zip(self.members, images, strict=True)
        return torch.stack([member.predictor.predict_months(stored, gender) for member, stored in pairs])

    def combine(
        self, member_months: NDArray[np.float32], gender: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Correct and average the predictions of the members.

        The limits of an interval are the means of the members' limits. That is conservative: the mean of several
        predictions has smaller errors than each of them, so the interval contains the true age more often than the
        level says.

        Args:
            member_months: float32 (members, n), from `predict_members`.
            gender: float32 (n,).

        Returns:
            float32 (n,), the ages in months.
            float32 (n, 2), the lower and upper limits; None if a member is not calibrated.
        """
        months, intervals = list[NDArray[np.float32]](), list[NDArray[np.float32]]()
        for member, predicted in zip(self.members, member_months, strict=True):
            if member.calibration is None:
                months.append(predicted)
            else:
                corrected, limits = member.calibration.apply(predicted, gender)
                months.append(corrected)
                intervals.append(limits)
        return _mean(months), _mean(intervals) if len(intervals) == len(months) else None


def load_ensemble(paths: Sequence[str | Path], *, device: torch.device | str, views: Views = "mirror") -> Ensemble:
    """Load the averaged models of one or more checkpoints, onto `device`.

    Args:
        paths: checkpoint files; their order has no effect.
        device: the device to predict on.
        views: which views of an image are averaged; see `Predictor`.

    Raises:
        CheckpointError: if a file is missing, damaged, or not a checkpoint.
        ConfigError: if there are no files, or two of them have the same weights.
    """
    if not paths:
        raise ConfigError("no checkpoint to predict with", expected="at least one file", got="none", do="name one")
    members = [_load_member(Path(path), device=device, views=views) for path in paths]
    _refuse_repeated(members)
    return Ensemble(tuple(sorted(members, key=lambda member: member.sha256)))


def ensemble_of(predictor: Predictor) -> Ensemble:
    """Return a model that has no file yet as an ensemble of one."""
    return Ensemble((Member(predictor),))


def _load_member(path: Path, *, device: torch.device | str, views: Views) -> Member:
    whole = read_whole(path)  # once, so that the digest is that of the weights even if the file is being replaced
    contents = read_checkpoint(io.BytesIO(whole), where=str(path))
    predictor = restore_predictor(contents, device=device, views=views)
    sha256, rest = hashlib.sha256(whole).hexdigest(), without_weights(contents)
    return Member(predictor, _calibration_of(contents, path), str(path), sha256, rest)


def without_weights(contents: Mapping[str, Any]) -> dict[str, Any]:
    """Return what describes a model in the contents of a checkpoint."""
    return {name: value for name, value in contents.items() if name not in _WEIGHTS}


def _calibration_of(contents: dict[str, Any], path: Path) -> Calibration | None:
    if contents["calibration"] is None:
        return None
    try:
        return Calibration.from_json(contents["calibration"])
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: the calibration is not one of this version",
            expected="what `wds-bone calibrate` writes",
            got=f"{type(error).__name__}: {error}",
            do="calibrate the checkpoint again with `wds-bone calibrate`",
        ) from error


def _refuse_repeated(members: Sequence[Member]) -> None:
    if len(members) == 1:
        return
    digests = [weights_sha256(member.predictor.model.state_dict()) for member in members]
    digest, count = Counter(digests).most_common(1)[0]
    if count > 1:
        same = [member for member, found in zip(members, digests, strict=True) if found == digest]
        calibrated = next((member.path for member in same if member.calibration), None)
        raise ConfigError(
            "the same model is given more than once",
            expected="checkpoints with different weights, each of which has the same share in the mean",
            got=", ".join(member.path for member in same),
            do="leave all but one of them out" + (f"; {calibrated} has intervals" if calibrated else ""),
        )


def _mean(columns: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return the mean in float32, added in one order; `np.mean` adds in an order that depends on the shape."""
    mean: NDArray[np.float32] = reduce(np.add, columns) / np.float32(len(columns))
    return mean
