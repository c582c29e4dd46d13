"""The network: a classification model as the backbone, and a head that also sees the gender.

In: float32 images (B, 1, H, W) and genders (B,).
Out: standardized ages, float32 (B,); in training, a model of distributions gives their logits, (B, bins).
Invariant: the architecture is a function of the model's name and the shape of its head alone, so that a checkpoint can
rebuild it.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from wds_bone.errors import ConfigError
from wds_bone.model.residual import PREFIX, build_residual
from wds_bone.model.timm_models import TIMM_PREFIX, build_timm

NUM_FEATURES = 256
NUM_GENDER_FEATURES = 32
GRAY_MEAN, GRAY_SD = 0.449, 0.226
"""ImageNet's mean and standard deviation, averaged over the channels; they only matter for pretrained weights."""
LOWEST_BIN, HIGHEST_BIN = -3.5, 3.5
"""The range of standardized ages that a distribution covers at least; those of the 2017 RSNA challenge are from -3.1
to 2.5. `build_learner` widens `bins` if the training ages need it."""
Fusion = Literal["none", "sum", "concat", "film", "heads"]
_OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}


@dataclass(frozen=True)
class HeadShape:
    """How the features of an image become an age.

    Attributes:
        fusion: how the gender is used. "none" ignores it, "sum" adds its embedding to the features, "concat" appends it
            and adds a layer, "film" scales and shifts the features (Perez et al., 2018), "heads" adds it and has a last
            layer for each gender.
        num_bins: the number of ages whose probabilities are predicted, the expectation of which is the age (Gao et al.,
            2018); 0 predicts the age itself.
    """

    fusion: Fusion = "sum"
    num_bins: int = 0

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "HeadShape":
        """Return the shape in the settings of a run, or in those of a checkpoint from before there was a choice."""
        return cls(config.get("gender_fusion", "sum"), config.get("age_bins", 0))


class BoneAgeModel(nn.Module):
    """A backbone for the image, an embedding of the gender, and a head for both.

    Args:
        backbone: maps (B, 1, H, W) to (B, NUM_FEATURES).
        shape: the shape of the head.
    """

    bins: Tensor | None

    def __init__(self, backbone: nn.Module, shape: HeadShape = HeadShape()) -> None:
        super().__init__()
        self.backbone, self.shape = backbone, shape
        sizes: dict[Fusion, int] = {"concat": NUM_GENDER_FEATURES, "film": 2 * NUM_FEATURES}
        self.gender = None if shape.fusion == "none" else nn.Embedding(2, sizes.get(shape.fusion, NUM_FEATURES))
        joined = NUM_FEATURES + NUM_GENDER_FEATURES if shape.fusion == "concat" else NUM_FEATURES
        hidden = [nn.ReLU(), nn.Linear(joined, NUM_FEATURES)] if shape.fusion == "concat" else []
        num_outputs = max(1, shape.num_bins) * (2 if shape.fusion == "heads" else 1)
        self.head = nn.Sequential(*hidden, nn.ReLU(), nn.Linear(NUM_FEATURES, num_outputs))
        if self.gender is not None and shape.fusion == "film":
            nn.init.zeros_(self.gender.weight)
        bins = torch.linspace(LOWEST_BIN, HIGHEST_BIN, shape.num_bins) if shape.num_bins else None
        self.register_buffer("bins", bins)

    def forward(self, image: Tensor, gender: Tensor) -> Tensor:
        """Return the standardized ages.

        Args:
            image: float32 (B, 1, H, W), from `Preprocessing.to_input`.
            gender: float32 (B,), 1 male and 0 female.

        Returns:
            float32 (B,): (age - mean) / SD of the training ages. In training mode, a model of distributions returns
            float32 (B, bins), the logits of their probabilities, which the loss needs.
        """
        features = self.backbone((image - GRAY_MEAN) / GRAY_SD)
        # In bfloat16 the last layer would round ages to half a month.
        with torch.autocast(image.device.type, enabled=False):
            joined = self._join(features.float(), gender.long())
            outputs: Tensor = self.head(joined) if self.training else self._precise_head(joined)
            if self.shape.fusion == "heads":
                of_girls, of_boys = outputs.chunk(2, dim=1)
                outputs = torch.where(gender[:, None] == 1, of_boys, of_girls)
            if self.bins is None:
                return outputs.flatten()
            return outputs if self.training else expected_age(outputs, self.bins)

    def _precise_head(self, joined: Tensor) -> Tensor:
        """Return the outputs of the head, summed in float64.

        BLAS sums float32 in an order that depends on the place in the batch. The layers themselves do not change,
        because other threads may be using them.
        """
        outputs = joined.double()
        for layer in self.head:
            if isinstance(layer, nn.Linear):
                outputs = F.linear(outputs, layer.weight.double(), layer.bias.double())
            else:
                outputs = layer(outputs)
        return outputs.float()

    @torch.no_grad()
    def use_bins(self, bins: Tensor) -> None:
        """Replace the bins of a distribution by as many others, and let the last layer predict nearly the same ages.

        The logit of a new bin is interpolated between those of the old bins around it; outside, it is that of the
        first or the last one.
        """
        assert self.bins is not None
        if torch.equal(bins, self.bins):
            return  # interpolating in place would change the last bits
        places = ((bins - self.bins[0]) / (self.bins[1] - self.bins[0])).clamp(0, len(bins) - 1)
        below = places.floor().long().clamp_max(len(bins) - 2)
        for parameter in self.head[-1].parameters():
            rows = parameter.view(-1, len(bins), *parameter.shape[1:])  # (1 or 2 genders, bins, ...)
            parts = (places - below).view(-1, *[1] * (rows.ndim - 2))
            parameter.copy_(torch.lerp(rows[:, below], rows[:, below + 1], parts).view_as(parameter))
        self.bins = bins

    def _join(self, features: Tensor, gender: Tensor) -> Tensor:
        if self.gender is None:
            return features
        embedded: Tensor = self.gender(gender)
        if self.shape.fusion == "concat":
            return torch.cat([features, embedded], 1)
        if self.shape.fusion == "film":
            scale, shift = embedded.chunk(2, dim=1)
            return features * (1.0 + scale) + shift
        return features + embedded


def expected_age(logits: Tensor, bins: Tensor) -> Tensor:
    """Return the expectations of distributions over standardized ages, float32 (B,).

    Args:
        logits: float32 (B, bins).
        bins: float32 (bins,), the ages.
    """
    return (logits.softmax(1) * bins).sum(1)  # a matrix product rounds some rows of a batch differently


def build_model(name: str, shape: HeadShape = HeadShape()) -> BoneAgeModel:
    """Build the named model with random weights from torch's default generator.

    Raises:
        ConfigError: if there is no such model.
    """
    backbone = build_backbone(name, num_features=NUM_FEATURES)
    sum_input_channels(backbone)
    return BoneAgeModel(backbone, shape)


def build_backbone(name: str, *, num_features: int) -> nn.Module:
    """Build the model of that name for three channels, with `num_features` outputs.

    Args:
        name: a classification model of torchvision, `timm:` and one of timm, or one of `model/residual.py`.
        num_features: the number of outputs.

    Raises:
        ConfigError: if there is no such model.
    """
    if name.startswith(PREFIX):
        return build_residual(name, num_features=num_features)
    if name.startswith(TIMM_PREFIX):
        return build_timm(name, num_features=num_features)
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
