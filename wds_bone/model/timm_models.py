"""Build the models of timm, PyTorch Image Models (extra `timm`).

In: `timm:` and a name of timm, such as `timm:convnextv2_tiny`.
Out: a network for three channels, or its pretrained weights.
Invariant: timm is imported only if such a model is used.
"""

import difflib
from types import ModuleType

from torch import Tensor, nn

from wds_bone.errors import ConfigError

TIMM_PREFIX = "timm:"


def build_timm(name: str, *, num_features: int) -> nn.Module:
    """Build timm's model of that name for three channels with random weights and `num_features` outputs.

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
