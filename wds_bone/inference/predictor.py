"""Predict ages with one trained model.

In: a checkpoint, images as the shards store them, and genders.
Out: ages in months.
Invariant: the predictions depend only on the checkpoint and the inputs. The prediction of a sample does not depend on
the contents of the rest of its batch; batches of a different shape round differently.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from wds_bone.model.checkpoint import restoring
from wds_bone.model.loss import Target
from wds_bone.model.model import BoneAgeModel, HeadShape, build_model
from wds_bone.model.preprocess import Preprocessing
from wds_bone.model.resample import affine_maps

Views = Literal["mirror", "tta"]
"""Which views of an image are averaged: itself, or moved as well (test-time augmentation); each with its mirror image.
"""
_TURNS_AND_ZOOMS = ((5.0, 1.0), (-5.0, 1.0), (0.0, 0.95), (0.0, 1.05))
"""How the views are moved: within the ranges of the default augmentation, so that the model knows such images."""


@dataclass
class Predictor:
    """A model in evaluation mode, with the conversions from stored images to its input and from its output to months.

    Attributes:
        model: the network, on the device to predict on.
        preprocessing: converts stored images to the model's input.
        target: converts the model's output to months.
        precision: dtype of the forward pass, float32 or bfloat16.
        views: the views of an image that are averaged: "mirror", or "tta" for five times as many.
    """

    model: BoneAgeModel
    preprocessing: Preprocessing
    target: Target
    precision: torch.dtype
    views: Views = "mirror"

    @torch.no_grad()
    def predict_months(self, image: Tensor, gender: Tensor) -> Tensor:
        """Predict ages, each as the mean over the views of the image and their mirror images.

        Args:
            image: uint8 (B, 1, H, W), as stored.
            gender: float32 (B,), 1 male and 0 female.

        Returns:
            float32 (B,), in months, on the same device.
        """
        moves = [None, *self._moves(image.device)] if self.views == "tta" else [None]
        views = [self._predict_pair(image, gender, moved) for moved in moves]
        return self.target.to_months(torch.cat(views).mean(0))

    def _predict_pair(self, image: Tensor, gender: Tensor, moves: Tensor | None) -> Tensor:
        """Return the standardized ages for a view and its mirror image, float32 (2, B)."""
        prepared = self.preprocessing.to_input(image, moves)
        both = torch.cat([prepared, prepared.flip(3)]).contiguous(memory_format=torch.channels_last)
        with torch.autocast(image.device.type, torch.bfloat16, enabled=self.precision is torch.bfloat16):
            return self.model(both, gender.repeat(2)).view(2, -1)  # type: ignore[no-any-return]

    def _moves(self, device: torch.device) -> Tensor:
        """Return the maps of the views that are moved, float32 (views, 1, 2, 3); see `resample`."""
        aspect = self.preprocessing.width / self.preprocessing.height
        turns, zooms = torch.tensor(_TURNS_AND_ZOOMS).T
        return affine_maps(turns * (math.pi / 180), zooms, aspect=aspect)[:, None].to(device)


def restore_predictor(contents: dict[str, Any], *, device: torch.device | str, views: Views = "mirror") -> Predictor:
    """Build the averaged model from the contents of a checkpoint; it predicts in float32.

    Raises:
        CheckpointError: if it lacks a part of the model, or was trained with a normalization that this version does
            not support.
    """
    name = contents["config"]["model"]
    with restoring(name):
        preprocessing, target = Preprocessing.from_json(contents["preprocessing"]), Target(**contents["target"])
        model = build_model(name, HeadShape.of(contents["config"]))
        model.load_state_dict(contents["ema"])
    model = model.requires_grad_(False).eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Predictor(model, preprocessing, target, torch.float32, views)
