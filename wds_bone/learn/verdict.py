"""A refused update -> an error with its step and its samples, without making CUDA wait.

In comes the flag that `update_weights` leaves on the device, out goes an error or the loss. The invariant: every flag
is read before anything is saved, and at the latest one step after it was set; all ranks read the same.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from wds_bone.errors import WdsBoneError

KeysOfStep = Callable[[int], list[str]]
"""Step, counted from 0 -> the keys of its whole batch, the rows of one rank after those of the other."""


@dataclass(frozen=True)
class Verdict:
    """Whether a step was refused, as soon as it is known.

    Attributes:
        step: counted from 1.
        shares: float32 (world_size,) on the host; what each rank's samples add to the loss.
        refused: float32 scalar on the host; 1 if the loss or a gradient was not finite.
        copied: says when both have arrived from a CUDA device; None on the CPU.
    """

    step: int
    shares: Tensor
    refused: Tensor
    copied: torch.cuda.Event | None


def request_verdict(shares: Tensor, refused: Tensor, *, step: int) -> Verdict:
    """Start bringing the loss and the flag to the host."""
    if refused.device.type != "cuda":
        return Verdict(step, shares, refused, None)
    host = [value.to("cpu", non_blocking=True) for value in (shares, refused)]
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record()
    return Verdict(step, host[0], host[1], copied)


def hear(pending: deque[Verdict], keys_of_step: KeysOfStep, *, leave: int = 0) -> float:
    """Take the oldest verdicts until only `leave` remain, and return the last loss heard.

    Raises:
        WdsBoneError: the loss or a gradient of a step was not finite; the weights are those before it.
    """
    loss = 0.0
    while len(pending) > leave:
        loss = _confirm(pending.popleft(), keys_of_step)
    return loss


def _confirm(verdict: Verdict, keys_of_step: KeysOfStep) -> float:
    if verdict.copied is not None:
        verdict.copied.synchronize()
    loss = float(verdict.shares.sum().item())
    if verdict.refused.item():
        keys = _suspects(keys_of_step(verdict.step - 1), verdict.shares)
        raise WdsBoneError(
            f"step {verdict.step}: the loss or a gradient is not finite, with samples {', '.join(keys)}",
            expected="finite numbers",
            got=f"loss {loss}",
            do="lower --lr, or look at these samples; nothing of this step was kept",
        )
    return loss


def _suspects(keys: list[str], shares: Tensor) -> list[str]:
    """Return the keys of the ranks whose share is not finite; if it was a gradient only, all keys."""
    rows = len(keys) // len(shares)
    bad = [rank for rank, share in enumerate(shares.tolist()) if not -float("inf") < share < float("inf")]
    return [key for rank in bad for key in keys[rank * rows : (rank + 1) * rows]] or keys
