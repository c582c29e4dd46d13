"""Measure how much memory a model needs, on the meta device, where a forward pass computes shapes only.

In: a model and the shape of a batch.
Out: bytes.
Invariant: nothing is allocated and the model is not changed; PyTorch needs that much unless it fuses operations.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, UntypedStorage
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from wds_bone.errors import ConfigError
from wds_bone.model.model import BoneAgeModel

WRONG_SIZE = "use --image-size 224 (299 for inception_v3), a larger --batch-size, or another --model"


def measure_step_bytes(
    model: BoneAgeModel, *, name: str, num_images: int, height: int, width: int, do: str = WRONG_SIZE
) -> int:
    """Return the bytes that a training step in float32 keeps for its gradients.

    Args:
        model: the model, in training mode.
        name: the name of the model, for the error.
        num_images: images per forward pass.
        height: height of the images in pixels.
        width: width of the images in pixels.
        do: what to do about images that it cannot be trained on, for the error.

    Raises:
        ConfigError: if the backbone needs images of a different size, or more of them per forward pass.
    """
    kept: dict[int, UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    tensors = _tensors_on_meta(model)
    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            functional_call(model.backbone, tensors, torch.empty(num_images, 1, height, width, device="meta"))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"{name} cannot be trained on images of {width} x {height} pixels, {num_images} at a time per process",
            got=str(error).partition("\n")[0],
            do=do,
        ) from error
    own = _addresses(tensors)
    return sum(storage.nbytes() for address, storage in kept.items() if address not in own)


@torch.no_grad()
def measure_forward_bytes(model: BoneAgeModel, *, num_images: int, height: int, width: int) -> int:
    """Return the bytes of the largest tensor that a forward pass without gradients computes."""
    tensors, images = _tensors_on_meta(model), torch.empty(num_images, 1, height, width, device="meta")
    with _Largest(_addresses(tensors)) as largest:
        functional_call(model.backbone, tensors, images)
    return int(largest.num_bytes)


def _tensors_on_meta(model: BoneAgeModel) -> dict[str, Tensor]:
    tensors = {**dict(model.backbone.named_parameters()), **dict(model.backbone.named_buffers())}
    return {key: value.detach().to("meta").requires_grad_(value.requires_grad) for key, value in tensors.items()}


def _addresses(tensors: Mapping[str, Tensor]) -> set[int]:
    return {tensor.untyped_storage()._cdata for tensor in tensors.values()}


class _Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the size of the largest tensor that is computed while it is active, other than views of the weights."""

    def __init__(self, own: set[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.num_bytes, self._own = 0, own

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor) and leaf.is_meta]
        new = [tensor.nbytes for tensor in tensors if tensor.untyped_storage()._cdata not in self._own]
        self.num_bytes = max([self.num_bytes, *new])
        return result
