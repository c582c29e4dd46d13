"""Build the models of timm, PyTorch Image Models (extra `timm`).

In: `timm:` and a name of timm, such as `timm:convnextv2_tiny`.
Out: a network for three channels that are normalized as for torchvision's models, or its pretrained weights.
Invariant: timm is imported only if such a model is used.
"""

import difflib
import math
from collections.abc import Sequence
from functools import partial
from types import ModuleType
from typing import Any

from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from wds_bone.errors import ConfigError

TIMM_PREFIX = "timm:"


def build_timm(name: str, *, num_features: int) -> nn.Module:
    """Build timm's model of that name for three channels with random weights and `num_features` outputs.

    It has a stochastic depth layer wherever timm can have one, with the model's own probability, which is 0 for most.

    Raises:
        ConfigError: if timm is not installed, or has no such model.
    """
    timm, own_name = _import_timm(name), name.removeprefix(TIMM_PREFIX)
    if not timm.is_model(own_name):
        similar = difflib.get_close_matches(own_name, timm.list_models(), n=3)
        raise ConfigError(
            f"timm has no model named {own_name!r}",
            expected=", ".join(similar) if similar else "a name in `timm.list_models()`",
            got=own_name,
            do=f"use --model {TIMM_PREFIX}{similar[0] if similar else 'NAME with a name of that list'}",
        )
    model: nn.Module = timm.create_model(own_name, pretrained=False, num_classes=num_features)
    for block in list(model.modules()):
        _add_stochastic_depth(block, drop_path=timm.layers.DropPath)
    _normalize_as_pretrained(model, timm.data)
    return model


def fetch_timm(name: str) -> dict[str, Tensor]:
    """Return timm's pretrained weights of a model, from the cache of the Hugging Face Hub or from the network.

    Raises:
        ConfigError: if timm is not installed, has no such weights, or they are neither cached nor downloaded.
    """
    timm, own_name = _import_timm(name), name.removeprefix(TIMM_PREFIX)
    try:
        state: dict[str, Tensor] = timm.create_model(own_name, pretrained=True).state_dict()
    except (OSError, RuntimeError, ValueError) as error:  # the hub's errors are OSErrors, timm's the others
        raise ConfigError(
            f"the pretrained weights of {name} are not available",
            expected="weights in the cache of the Hugging Face Hub, or a connection to it",
            got=" ".join(f"{type(error).__name__}: {error}".split())[:300],
            do="fill the cache on a machine with a connection and copy it, or use --init-weights none",
        ) from error
    return state


def _add_stochastic_depth(block: nn.Module, *, drop_path: type[nn.Module]) -> None:
    """Replace the drop paths of a block by torchvision's; where timm's probability is 0, it has an identity or None.

    A block without a shortcut keeps what it has: dropping its path would leave nothing.
    """
    if not getattr(block, "residual", True):
        return
    attributes: dict[str, Any] = {**vars(block), **dict(block.named_children())}
    for name, layer in attributes.items():
        is_off = name.startswith("drop_path") and (layer is None or isinstance(layer, nn.Identity))
        if is_off or isinstance(layer, drop_path):
            setattr(block, name, StochasticDepth(getattr(layer, "drop_prob", 0.0), "row"))


def _normalize_as_pretrained(model: nn.Module, data: ModuleType) -> None:
    """Let a model rescale its input if its weights expect another mean and standard deviation than ImageNet's.

    As all channels of a film are equal, the means over the channels are used.
    """
    wanted = data.resolve_model_data_config(model)
    mean, sd = _mean(wanted["mean"]), _mean(wanted["std"])
    scale = _mean(data.IMAGENET_DEFAULT_STD) / sd
    shift = (_mean(data.IMAGENET_DEFAULT_MEAN) - mean) / sd
    if not (math.isclose(scale, 1.0) and math.isclose(shift, 0.0, abs_tol=1e-6)):
        model.register_forward_pre_hook(partial(_rescale_input, scale=scale, shift=shift))


def _rescale_input(_model: nn.Module, inputs: tuple[Tensor], *, scale: float, shift: float) -> tuple[Tensor]:
    return (inputs[0] * scale + shift,)


def _mean(channels: Sequence[float]) -> float:
    return sum(channels) / len(channels)


def _import_timm(name: str) -> ModuleType:
    try:
        import timm
    except ImportError as error:
        raise ConfigError(
            f"--model {name} needs the package timm",
            expected="an installed timm",
            got=error,
            do="install it with `pip install 'wds-bone[timm]'`, or use a --model of torchvision",
        ) from error
    module: ModuleType = timm
    return module
