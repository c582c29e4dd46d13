"""Gradients -> changed weights, unless a gradient is not finite.

In come a model and its gradients, out go changed parameters. The invariant: a NaN or an infinity never reaches a weight
or the optimizer's state; the check stays on the device, so CUDA does not wait for it.
"""

import torch
from torch import Tensor, nn

CLIP_NORM = 1.0


def build_optimizer(model: nn.Module, *, weight_decay: float) -> torch.optim.AdamW:
    """Return a fused AdamW that decays matrices and kernels, not norms and biases; its rate is set at each step."""
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    decayed = [parameter for parameter in learned if parameter.ndim > 1]
    plain = [parameter for parameter in learned if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=0.0, fused=True)


def update_weights(model: nn.Module, optimizer: torch.optim.AdamW, *, loss: Tensor, rate: float) -> Tensor:
    """Clip the gradients and make one step; leave everything as it is if the loss or a gradient is not finite.

    This is the mechanism of `torch.amp.GradScaler`: the fused kernel looks at `found_inf` on the device.

    Args:
        model: with the gradients of the whole batch.
        optimizer: of its parameters.
        loss: float32, any shape: what must be finite beside the gradients.
        rate: the learning rate of this step.

    Returns:
        float32 scalar on the device: 1 if the step was refused, else 0.
    """
    norm = nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
    refused = 1.0 - (norm + loss.detach().sum()).isfinite().float()
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.found_inf, optimizer.grad_scale = refused, None  # type: ignore[attr-defined]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return refused
