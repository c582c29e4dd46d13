"""Check that the loss and the gradients of each step were finite, without making CUDA wait.

In: the loss of each rank, and the flag that `update_weights` returns on the device.
Out: the loss on the host, or an error with the step and its samples.
Invariant: every flag is read before anything is saved, and at most one step after it was set; all ranks read the same
flags.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from wds_bone.errors import WdsBoneError

KeysOfStep = Callable[[int], list[str]]
"""Maps the number of a step, from 0, to the keys of its global batch, rank by rank."""


@dataclass(frozen=True)
class PendingLoss:
    """The loss of a step on its way to the host.

    Attributes:
        step: counted from 1.
        shares: float32 (world_size,) on the host; the contribution of each rank's samples to the loss.
        skipped: float32 scalar on the host; 1 if the loss or a gradient was not finite and the step changed nothing.
        copied: recorded once both have arrived from a CUDA device; None on the CPU.
    """

    step: int
    shares: Tensor
    skipped: Tensor
    copied: torch.cuda.Event | None


def copy_loss_to_host(shares: Tensor, skipped: Tensor, *, step: int) -> PendingLoss:
    """Start copying the loss and the flag to the host."""
    if skipped.device.type != "cuda":
        return PendingLoss(step, shares, skipped, None)
    host = [value.to("cpu", non_blocking=True) for value in (shares, skipped)]
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record()
    return PendingLoss(step, host[0], host[1], copied)


def check_losses(pending: deque[PendingLoss], keys_of_step: KeysOfStep, *, leave: int = 0) -> float:
    """Check and remove the oldest losses until `leave` remain, and return the last one checked.

    Raises:
        WdsBoneError: if the loss or a gradient of a step was not finite; the weights are those from before that step.
    """
    loss = 0.0
    while len(pending) > leave:
        loss = _check_loss(pending.popleft(), keys_of_step)
    return loss


def _check_loss(pending: PendingLoss, keys_of_step: KeysOfStep) -> float:
    if pending.copied is not None:
        pending.copied.synchronize()
    loss = float(pending.shares.sum().item())
    if pending.skipped.item():
        keys = _suspects(keys_of_step(pending.step - 1), pending.shares)
        raise WdsBoneError(
            f"step {pending.step}: the loss or a gradient is not finite for samples {', '.join(keys)}",
            expected="finite numbers",
            got=f"loss {loss}",
            do="use a lower --lr with another --out, or look at these samples; this step did not change the weights",
        )
    return loss


def _suspects(keys: list[str], shares: Tensor) -> list[str]:
    """Return the keys of the ranks whose loss is not finite, or all keys if only a gradient was not."""
    rows = len(keys) // len(shares)
    bad = [rank for rank, share in enumerate(shares.tolist()) if not math.isfinite(share)]
    return [key for rank in bad for key in keys[rank * rows : (rank + 1) * rows]] or keys
