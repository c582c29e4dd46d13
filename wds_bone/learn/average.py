"""Weights of every step -> their exponential moving average, the model that is validated and kept.

In come the trained model and its average, out goes the average moved a little. The invariant: parameters and buffers
are averaged alike, so the average needs no pass over the data of its own.
"""

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)


def copy_for_average(model: Model) -> Model:
    """Return a copy that takes no gradients and is in evaluation mode."""
    return copy.deepcopy(model).requires_grad_(False).eval()


@torch.no_grad()
def move_average(average: nn.Module, model: nn.Module, *, decay: float) -> None:
    """Set each floating value of `average` to decay x itself + (1 - decay) x the model's; copy the integers."""
    old, new = list(average.state_dict().values()), list(model.state_dict().values())
    pairs = list(zip(old, new, strict=True))
    floating = [(kept, value) for kept, value in pairs if kept.is_floating_point()]
    kept_values: list[Tensor] = [kept for kept, _ in floating]
    torch._foreach_lerp_(kept_values, [value for _, value in floating], 1.0 - decay)
    for kept, value in pairs:
        if not kept.is_floating_point():
            kept.copy_(value)
