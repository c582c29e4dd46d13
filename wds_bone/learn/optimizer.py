"""Update weights from gradients: AdamW, its learning rate, and the moving average of the weights.

In: a model with its gradients, and the number of the step.
Out: updated weights, and their exponential moving average (EMA), which is used for validation and prediction.
Invariant: a NaN or an infinity never reaches a weight or the optimizer's state; the check stays on the device, so CUDA
does not wait for it. Learning rate and decay depend on the step alone, so a resumed run needs no state for them.
"""

import copy
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import TypeVar

import torch
from torch import Tensor, nn

from wds_bone.learn.settings import TrainConfig

NUM_DEPTHS = 8
"""How many different learning rates the pretrained layers have at most."""
Model = TypeVar("Model", bound=nn.Module)


def build_optimizer(
    model: nn.Module, config: TrainConfig, *, new_layers: Sequence[nn.Module] = ()
) -> torch.optim.AdamW:
    """Return a fused AdamW that decays matrices and kernels, not norms and biases; its rate is set at each step.

    The `rate_factor` of a group is 1 for new layers, and rises geometrically from `first_layer_rate` with the depth of
    the others, so that pretrained features change less (Howard and Ruder, "Universal Language Model Fine-tuning",
    2018).

    Args:
        model: the model; its frozen parameters are left out.
        config: the settings.
        new_layers: those of its layers for which there are no pretrained weights.
    """
    grouped = defaultdict[tuple[float, float], list[nn.Parameter]](list)
    for parameter, depth in _depths(model, new_layers):
        decay = config.weight_decay if parameter.ndim > 1 else 0.0
        grouped[config.first_layer_rate ** (1.0 - depth), decay].append(parameter)
    groups = [
        {"params": parameters, "weight_decay": decay, "rate_factor": factor}
        for (factor, decay), parameters in grouped.items()
    ]
    return torch.optim.AdamW(groups, lr=0.0, fused=True)


def _depths(model: nn.Module, new_layers: Sequence[nn.Module]) -> Iterator[tuple[nn.Parameter, float]]:
    """Yield the parameters that are trained, with the depth of their layer: 0 for the first, 1 for the new ones."""
    new = {module for layer in new_layers for module in layer.modules()}
    layers = [module for module in model.modules() if any(True for _ in module.parameters(recurse=False))]
    pretrained = [layer for layer in layers if layer not in new]
    depths = {layer: number * NUM_DEPTHS // len(pretrained) / NUM_DEPTHS for number, layer in enumerate(pretrained)}
    for layer in layers:
        trained = (parameter for parameter in layer.parameters(recurse=False) if parameter.requires_grad)
        yield from ((parameter, depths.get(layer, 1.0)) for parameter in trained)


def update_weights(
    model: nn.Module, optimizer: torch.optim.AdamW, *, loss: Tensor, rate: float, clip_norm: float
) -> Tensor:
    """Clip the gradients and take one step; change nothing if the loss or a gradient is not finite.

    This is the mechanism of `torch.amp.GradScaler`: the fused kernel reads `found_inf` on the device.

    Args:
        model: the model, with the gradients of the whole batch.
        optimizer: the optimizer of its parameters.
        loss: float32 of any shape, which must be finite as well.
        rate: the learning rate of this step.
        clip_norm: the maximum norm of the gradient; 0 is no limit.

    Returns:
        float32 scalar on the device: 1 if the step was skipped, else 0.
    """
    norm = nn.utils.clip_grad_norm_(model.parameters(), clip_norm or math.inf)
    skipped = 1.0 - (norm + loss.detach().sum()).isfinite().float()
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate_factor"]
    optimizer.found_inf, optimizer.grad_scale = skipped, None  # type: ignore[attr-defined]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return skipped


def learning_rate(step: int, *, num_steps: int, peak: float, warmup: float) -> float:
    """Return the learning rate: it rises linearly during the warm-up, then falls to zero along a cosine.

    Args:
        step: number of the step, from 0.
        num_steps: steps of the whole run.
        peak: the highest rate.
        warmup: fraction of the steps in which it rises.
    """
    num_warmup = max(1, round(warmup * num_steps))
    if step < num_warmup:
        return peak * (step + 1) / (num_warmup + 1)
    progress = (step - num_warmup) / max(1, num_steps - num_warmup)
    return peak * 0.5 * (1.0 + math.cos(math.pi * progress))


def copy_for_ema(model: Model) -> Model:
    """Return a copy in evaluation mode whose parameters require no gradients."""
    return copy.deepcopy(model).requires_grad_(False).eval()


@dataclass(frozen=True)
class AveragedTensors:
    """The tensors of an average, and those of its model in the same order; both are only ever changed in place.

    They are listed once, because `state_dict` of a deep model takes milliseconds, in which a GPU gets no work.
    """

    kept_floats: list[Tensor]
    new_floats: list[Tensor]
    kept_integers: list[Tensor]
    new_integers: list[Tensor]


def pair_tensors(ema: nn.Module, model: nn.Module) -> AveragedTensors:
    """Return the tensors of a model and its average, including buffers."""
    kept, new = list(ema.state_dict().values()), list(model.state_dict().values())
    floats = [tensor.is_floating_point() for tensor in new]
    integers = [not is_float for is_float in floats]
    selected = [list(compress(tensors, chosen)) for chosen in (floats, integers) for tensors in (kept, new)]
    return AveragedTensors(*selected)


@torch.no_grad()
def update_ema(averaged: AveragedTensors, *, decay: float) -> None:
    """Set each float of the average to decay x itself + (1 - decay) x the model's; copy the integers.

    Buffers are averaged like parameters, so the batch norms of the average need no pass over the data.
    """
    torch._foreach_lerp_(averaged.kept_floats, averaged.new_floats, 1.0 - decay)
    if averaged.kept_integers:
        torch._foreach_copy_(averaged.kept_integers, averaged.new_integers)


def ema_decay(step: int, *, largest: float) -> float:
    """Return the decay at a step: small at first, and `largest` later (TensorFlow's rule)."""
    return min(largest, (1 + step) / (10 + step))
