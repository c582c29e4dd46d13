"""The network: any torchvision classification model as the backbone, and a head that also sees the gender.

In: float32 images (B, 1, H, W) and genders (B,).
Out: standardized ages, float32 (B,).
Invariant: the architecture is a function of the model's name alone, so that a checkpoint can rebuild it.
"""

import difflib
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from wds_bone.errors import ConfigError

NUM_FEATURES = 256
GRAY_MEAN, GRAY_SD = 0.449, 0.226
"""ImageNet's mean and standard deviation, averaged over the channels; they only matter for pretrained weights."""
_OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}


class BoneAgeModel(nn.Module):
    """A backbone for the image, an embedding of the gender, and a head for their sum.

    Args:
        backbone: maps (B, 1, H, W) to (B, NUM_FEATURES).
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.gender = nn.Embedding(2, NUM_FEATURES)
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(NUM_FEATURES, 1))

    def forward(self, image: Tensor, gender: Tensor) -> Tensor:
        """Return the standardized ages.

        Args:
            image: float32 (B, 1, H, W), from `Preprocessing.to_input`.
            gender: float32 (B,), 1 male and 0 female.

        Returns:
            float32 (B,): (age - mean) / SD of the training ages.
        """
        features = self.backbone((image - GRAY_MEAN) / GRAY_SD)
        # In bfloat16 the last layer would round ages to half a month.
        with torch.autocast(image.device.type, enabled=False):
            joined = features.float() + self.gender(gender.long())
            return self.head(joined).flatten()  # type: ignore[no-any-return]


def build_model(name: str) -> BoneAgeModel:
    """Build the named model with random weights from torch's default generator.

    Raises:
        ConfigError: if torchvision has no such classification model.
    """
    backbone = build_backbone(name, num_features=NUM_FEATURES)
    sum_input_channels(backbone)
    return BoneAgeModel(backbone)


def build_backbone(name: str, *, num_features: int) -> nn.Module:
    """Build torchvision's model of that name for three channels, with `num_features` outputs.

    Raises:
        ConfigError: if torchvision has no such classification model.
    """
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3)
        raise ConfigError(
            f"torchvision has no classification model named {name!r}",
            expected=", ".join(known),
            got=name,
            do=f"use --model {' or '.join(close) if close else 'one of these'}",
        )
    backbone: nn.Module = torchvision.models.get_model(name, num_classes=num_features, **_OPTIONS.get(name, {}))
    return backbone


def sum_input_channels(backbone: nn.Module) -> None:
    """Change the first convolution from three input channels to one, with the sum of their weights.

    This equals repeating the gray channel three times, with a third of the arithmetic.
    """
    first = next(module for module in backbone.modules() if isinstance(module, nn.Conv2d))
    first.weight = nn.Parameter(first.weight.detach().sum(1, keepdim=True))
    first.in_channels = 1
