"""A refused update -> an error with its step and its samples, without making CUDA wait.

In comes the flag that `update_weights` leaves on the device, out goes an error or the loss. The invariant: every flag
is read before anything is saved, and at the latest one step after it was set.
"""

from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

from wds_bone.errors import WdsBoneError


@dataclass(frozen=True)
class Verdict:
    """Whether a step was refused, as soon as it is known.

    Attributes:
        step: counted from 1.
        keys: of the samples in its batch.
        loss: float32 scalar on the host.
        refused: float32 scalar on the host; 1 if the loss or a gradient was not finite.
        copied: says when both have arrived from a CUDA device; None on the CPU.
    """

    step: int
    keys: list[str]
    loss: Tensor
    refused: Tensor
    copied: torch.cuda.Event | None


def request_verdict(loss: Tensor, refused: Tensor, *, step: int, keys: list[str]) -> Verdict:
    """Start bringing loss and flag to the host."""
    if refused.device.type != "cuda":
        return Verdict(step, keys, loss, refused, None)
    host = [value.to("cpu", non_blocking=True) for value in (loss, refused)]
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record()
    return Verdict(step, keys, host[0], host[1], copied)


def hear(pending: deque[Verdict], *, leave: int = 0) -> float:
    """Take the oldest verdicts until only `leave` remain, and return the last loss heard.

    Raises:
        WdsBoneError: the loss or a gradient of a step was not finite; the weights are those before it.
    """
    loss = 0.0
    while len(pending) > leave:
        loss = _confirm(pending.popleft())
    return loss


def _confirm(verdict: Verdict) -> float:
    if verdict.copied is not None:
        verdict.copied.synchronize()
    loss = float(verdict.loss.item())
    if verdict.refused.item():
        raise WdsBoneError(
            f"step {verdict.step}: the loss or a gradient is not finite, with samples {', '.join(verdict.keys)}",
            expected="finite numbers",
            got=f"loss {loss}",
            do="lower --lr, or look at these samples; nothing of this step was kept",
        )
    return loss
