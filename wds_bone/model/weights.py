"""Pretrained weights -> a fresh model.

In comes a file, or the name of a model of which torchvision has ImageNet weights, out goes the model with them. The
invariant: every weight of the backbone but its classifier comes from the file, or nothing does.
"""

import hashlib
import pickle
import re
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
import torchvision
from torch import Tensor, nn

from wds_bone.errors import CheckpointError, ConfigError
from wds_bone.model.checkpoint import is_sealed, load_checkpoint
from wds_bone.model.model import BoneAgeModel

_AUXILIARY = re.compile(r"aux\d\.|AuxLogits\.")
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.(\d)")


def load_initial_weights(model: BoneAgeModel, source: str, *, name: str) -> None:
    """Set the weights that training begins with.

    Args:
        model: freshly built.
        source: "imagenet" (torchvision's own, fetched if they are not on this machine), or a file: a checkpoint of ours
            of the same model, or a state dictionary of torchvision's model.
        name: of the model.

    Raises:
        ConfigError: there are no such weights, or they belong to another architecture.
        CheckpointError: the file is damaged.
    """
    if source == "imagenet":
        fit_backbone(model.backbone, fetch_imagenet(name), origin=f"ImageNet weights of {name}")
        return
    path = Path(source)
    if is_sealed(path):
        _copy_model(model, load_checkpoint(path), path=path, name=name)
    else:
        fit_backbone(model.backbone, _read_state(path), origin=str(path))


def fetch_imagenet(name: str) -> dict[str, Tensor]:
    """Return torchvision's default weights of a model, from its cache or from the network.

    Raises:
        ConfigError: they are neither here nor to be had.
    """
    weights = next(iter(torchvision.models.get_model_weights(name))).DEFAULT
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    try:
        state: dict[str, Tensor] = weights.get_state_dict(check_hash=True, weights_only=True)
    except (URLError, OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise ConfigError(
            f"ImageNet weights of {name} cannot be had",
            expected=f"{weights.url}, or a copy of it at {cached}",
            got=error,
            do=f"put that file at {cached}, or give --init-weights none",
        ) from error
    _refuse_other_hash(cached)
    return state


def _refuse_other_hash(path: Path) -> None:
    """Raise unless the sha256 of torchvision's file begins as its name says; torchvision looks only when it fetches.

    Raises:
        CheckpointError: the file has changed.
    """
    claimed = path.stem.rpartition("-")[2]
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if not found.startswith(claimed):
        raise CheckpointError(
            f"{path}: not the weights that torchvision offers",
            expected=f"a sha256 that begins with {claimed}",
            got=found,
            do="delete that file; it is fetched again",
        )


def fit_backbone(backbone: nn.Module, state: dict[str, Tensor], *, origin: str) -> None:
    """Set a backbone to weights for color images and any number of classes; the classifier is left as it is.

    The first convolution becomes the sum over the three channels, which is what repeating the gray channel would do.

    Raises:
        ConfigError: the weights belong to another architecture.
    """
    own = backbone.state_dict()
    given = {_OLD_DENSENET.sub(r"\1\2", name): value for name, value in state.items() if not _AUXILIARY.match(name)}
    fitted = {name: _to_gray(value, own[name]) for name, value in given.items() if name in own}
    classifier = {name for name, value in fitted.items() if value.shape != own[name].shape}
    layers = {name.rpartition(".")[0] for name in classifier}
    if given.keys() != own.keys() or len(layers) > 1:
        differing = sorted(given.keys() ^ own.keys() or classifier)
        raise ConfigError(
            f"{origin}: weights of another architecture",
            expected=f"{len(own)} tensors of this model",
            got=f"{len(given)} tensors, of which {len(differing)} do not fit: {', '.join(differing[:3])}",
            do="give the --model that the weights belong to",
        )
    backbone.load_state_dict(fitted | {name: own[name] for name in classifier})


def _to_gray(value: Tensor, own: Tensor) -> Tensor:
    color = value.ndim == own.ndim == 4 and value.shape[1] == 3 and own.shape[1] == 1
    return value.sum(1, keepdim=True) if color else value


def _copy_model(model: BoneAgeModel, contents: dict[str, Any], *, path: Path, name: str) -> None:
    if contents["config"]["model"] != name:
        raise ConfigError(
            f"{path}: a checkpoint of another model",
            expected=name,
            got=contents["config"]["model"],
            do=f"give --model {contents['config']['model']}",
        )
    model.load_state_dict(contents["average"])


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path}: not a file of weights", got=error, do="give another --init-weights") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(
            f"{path}: not a state dictionary",
            expected="tensors by name",
            got=type(state).__name__,
            do="save `model.state_dict()` and give that file",
        )
    return state
