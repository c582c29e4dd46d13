"""Predict ages with a trained model.

In: a checkpoint, images as the shards store them, and genders.
Out: ages in months.
Invariant: the predictions depend only on the checkpoint and the inputs. Up to rounding, the prediction of a sample does
not depend on the rest of its batch.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wds_bone.model.checkpoint import load_checkpoint, restoring
from wds_bone.model.loss import Target
from wds_bone.model.model import BoneAgeModel, build_model
from wds_bone.model.preprocess import Preprocessing


@dataclass
class Predictor:
    """A model in evaluation mode, with the conversions from stored images to its input and from its output to months.

    Attributes:
        model: the network, on the device to predict on.
        preprocessing: converts stored images to the model's input.
        target: converts the model's output to months.
        precision: dtype of the forward pass, float32 or bfloat16.
    """

    model: BoneAgeModel
    preprocessing: Preprocessing
    target: Target
    precision: torch.dtype

    @torch.no_grad()
    def predict_months(self, image: Tensor, gender: Tensor) -> Tensor:
        """Predict ages, each as the mean over the image and its mirror image.

        Args:
            image: uint8 (B, 1, H, W), as stored.
            gender: float32 (B,), 1 male and 0 female.

        Returns:
            float32 (B,), in months, on the same device.
        """
        prepared = self.preprocessing.to_input(image)
        both = torch.cat([prepared, prepared.flip(3)]).contiguous(memory_format=torch.channels_last)
        with torch.autocast(image.device.type, torch.bfloat16, enabled=self.precision is torch.bfloat16):
            standardized = self.model(both, gender.repeat(2))
        return self.target.to_months(standardized.view(2, -1).mean(0))


def load_predictor(path: Path, *, device: torch.device | str) -> Predictor:
    """Load the averaged model of a checkpoint file.

    Raises:
        CheckpointError: if the file is missing, damaged, or not a checkpoint.
    """
    return restore_predictor(load_checkpoint(path), device=device)


def restore_predictor(contents: dict[str, Any], *, device: torch.device | str) -> Predictor:
    """Build the averaged model from the contents of a checkpoint; it predicts in float32.

    Raises:
        CheckpointError: if it lacks a part of the model, or was trained with a normalization that this version does
            not support.
    """
    name = contents["config"]["model"]
    with restoring(name):
        preprocessing, target = Preprocessing.from_json(contents["preprocessing"]), Target(**contents["target"])
        model = build_model(name)
        model.load_state_dict(contents["ema"])
    model = model.requires_grad_(False).eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Predictor(model, preprocessing, target, torch.float32)
