"""Configure the dropout and stochastic depth of a model, freeze its backbone, and find its new layers.

In: a model, which is changed in place.
Invariant: a setting for which the model has no layer is refused.
"""

from collections.abc import Sequence

from torch import nn
from torchvision.ops import StochasticDepth

from wds_bone.errors import ConfigError
from wds_bone.model.model import BoneAgeModel


def set_dropout(model: BoneAgeModel, probability: float, *, name: str) -> None:
    """Set the probability of all dropout layers.

    Raises:
        ConfigError: if the model has none and the probability is above 0.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    _refuse_missing(layers, "--dropout", probability, name=name)
    for layer in layers:
        layer.p = probability


def set_drop_path(model: BoneAgeModel, probability: float, *, name: str) -> None:
    """Set the stochastic depth layers to probabilities that rise linearly from 0 to `probability`.

    This is the linear rule of Huang et al., "Deep Networks with Stochastic Depth", 2016.

    Raises:
        ConfigError: if the model has none and the probability is above 0.
    """
    layers = [module for module in model.modules() if isinstance(module, StochasticDepth)]
    _refuse_missing(layers, "--drop-path", probability, name=name)
    for number, layer in enumerate(layers):
        layer.p = probability * number / max(1, len(layers) - 1)


def freeze_backbone(model: BoneAgeModel) -> None:
    """Freeze the backbone except its last layer; its normalization layers keep their statistics."""
    model.backbone.requires_grad_(False).eval()
    _last_layer(model.backbone).requires_grad_(True)


def new_layers(model: BoneAgeModel) -> list[nn.Module]:
    """Return the layers that pretrained weights do not fill: the last one of the backbone, the head, the embedding."""
    return [_last_layer(model.backbone), model.head, *([] if model.gender is None else [model.gender])]


def _last_layer(backbone: nn.Module) -> nn.Module:
    return [module for module in backbone.modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1]


def _refuse_missing(layers: Sequence[nn.Module], flag: str, probability: float, *, name: str) -> None:
    if probability and not layers:
        raise ConfigError(
            f"{flag} {probability} has no effect on {name}, which has no such layers",
            expected="0",
            got=probability,
            do=f"leave {flag} out, or use another --model, such as convnext_tiny or efficientnet_v2_s",
        )
