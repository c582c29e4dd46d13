"""Load pretrained weights into a new model.

In: a file, or the name of a model for which torchvision or timm has pretrained weights.
Out: the model with these weights.
Invariant: either every weight of the backbone except its classifier comes from the file, or the load fails.
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
from wds_bone.model.checkpoint import has_checksum_line, load_checkpoint, restoring
from wds_bone.model.model import BoneAgeModel, HeadShape
from wds_bone.model.residual import PREFIX
from wds_bone.model.timm_models import TIMM_PREFIX, fetch_timm

_AUXILIARY = re.compile(r"aux\d\.|AuxLogits\.")
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.(\d)")


def load_initial_weights(model: BoneAgeModel, source: str, *, name: str) -> dict[str, Any] | None:
    """Load the weights that training starts from.

    Args:
        model: a newly built model.
        source: "imagenet" (weights of torchvision or timm, downloaded if they are not cached), or a file: a checkpoint
            of the same model, or a state dictionary of torchvision's or timm's model.
        name: the name of the model.

    Returns:
        The contents of the checkpoint; None for other weights.

    Raises:
        ConfigError: if there are no such weights, or they belong to another architecture or another head.
        CheckpointError: if the file is damaged.
    """
    if source == "imagenet":
        fetch = fetch_timm if name.startswith(TIMM_PREFIX) else fetch_imagenet
        load_backbone(model.backbone, fetch(name), origin=f"pretrained weights of {name}")
        return None
    path = Path(source)
    if not has_checksum_line(path):
        load_backbone(model.backbone, _read_state(path), origin=str(path))
        return None
    contents = load_checkpoint(path)
    _copy_model(model, contents, path=path, name=name)
    return contents


def fetch_imagenet(name: str) -> dict[str, Tensor]:
    """Return torchvision's default weights of a model, from its cache or from the network.

    Raises:
        ConfigError: if there are none, or they are not cached and cannot be downloaded.
        CheckpointError: if the cached file has been changed.
    """
    if name.startswith(PREFIX):
        raise ConfigError(
            f"there are no ImageNet weights of {name}",
            expected="a model of torchvision or timm, or --init-weights none",
            got="--init-weights imagenet",
            do="use --init-weights none, or another --model",
        )
    weights = next(iter(torchvision.models.get_model_weights(name))).DEFAULT
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    try:
        state: dict[str, Tensor] = weights.get_state_dict(check_hash=True, weights_only=True)
    except (URLError, OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise ConfigError(
            f"the ImageNet weights of {name} are not available",
            expected=f"{weights.url}, or a copy of it at {cached}",
            got=error,
            do=f"copy that file to {cached}, or use --init-weights none",
        ) from error
    _refuse_other_hash(cached)
    return state


def _refuse_other_hash(path: Path) -> None:
    """Check a cached file against the sha256 prefix in its name; torchvision checks only downloads."""
    claimed = path.stem.rpartition("-")[2]
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if not found.startswith(claimed):
        raise CheckpointError(
            f"{path}: is not the file that torchvision publishes",
            expected=f"a sha256 that starts with {claimed}",
            got=found,
            do="delete the file; it will be downloaded again",
        )


def load_backbone(backbone: nn.Module, state: dict[str, Tensor], *, origin: str) -> None:
    """Load weights of a color model with any number of classes into a backbone; its classifier is not changed.

    The weights of the first convolution are summed over its three channels, which equals repeating the gray channel.

    Raises:
        ConfigError: if the weights belong to another architecture.
    """
    own = backbone.state_dict()
    given = {_OLD_DENSENET.sub(r"\1\2", name): value for name, value in state.items() if not _AUXILIARY.match(name)}
    fitted = {name: _to_gray(value, own[name]) for name, value in given.items() if name in own}
    classifier = {name for name, value in fitted.items() if value.shape != own[name].shape}
    layers = {name.rpartition(".")[0] for name in classifier}
    if given.keys() != own.keys() or len(layers) > 1:
        differing = sorted(given.keys() ^ own.keys() or classifier)
        raise ConfigError(
            f"{origin}: the weights belong to another architecture",
            expected=f"{len(own)} tensors of this model",
            got=f"{len(given)} tensors, {len(differing)} of which do not match: {', '.join(differing[:3])}",
            do="use the --model that the weights belong to",
        )
    backbone.load_state_dict(fitted | {name: own[name] for name in classifier})


def _to_gray(value: Tensor, own: Tensor) -> Tensor:
    color = value.ndim == own.ndim == 4 and value.shape[1] == 3 and own.shape[1] == 1
    return value.sum(1, keepdim=True) if color else value


def _copy_model(model: BoneAgeModel, contents: dict[str, Any], *, path: Path, name: str) -> None:
    if contents["config"]["model"] != name:
        raise ConfigError(
            f"{path}: is a checkpoint of another model",
            expected=name,
            got=contents["config"]["model"],
            do=f"use --model {contents['config']['model']}",
        )
    if (shape := HeadShape.of(contents["config"])) != model.shape:
        raise ConfigError(
            f"{path}: is a checkpoint of a model with another head",
            expected=head_settings(model.shape),
            got=head_settings(shape),
            do=f"use {head_settings(shape)}, or other --init-weights",
        )
    with restoring(name):
        model.load_state_dict(contents["ema"])


def head_settings(shape: HeadShape) -> str:
    """Return the options of a training whose model has such a head."""
    return f"--set gender_fusion={shape.fusion} age_bins={shape.num_bins}"


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises arbitrary exceptions for files of other programs
        got = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"{path}: is not a weights file", got=got, do="use another --init-weights") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(
            f"{path}: is not a state dictionary",
            expected="tensors by name",
            got=type(state).__name__,
            do="save `model.state_dict()` with torch.save, and use --init-weights with that file",
        )
    return state
