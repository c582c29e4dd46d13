"""Keep the model identical on several ranks: the same weights and statistics after every step.

In: a model.
Out: the module to call in its place.
Invariant: gradients are sums over the global batch and running statistics are means over the ranks, so that every rank
holds the same model, bit for bit.
"""

import inspect
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from wds_bone.distributed.ranks import Ranks
from wds_bone.errors import ConfigError

_KEYWORDS = inspect.signature(DistributedDataParallel).parameters
_SYNC_BUFFERS = "forward_sync_buffers" if "forward_sync_buffers" in _KEYWORDS else "broadcast_buffers"
"""The second name has been deprecated since torch 2.15, which introduced the first one."""
_PLAIN_NORMS = {nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm}
Model = TypeVar("Model", bound=nn.Module)


def wrap_ddp(model: nn.Module, ranks: Ranks) -> DistributedDataParallel | None:
    """Wrap a model so that its backward pass averages the gradients over the ranks; None without a launcher.

    Buffers are not synchronized here: PyTorch would overwrite the running statistics of all ranks with those of rank 0.
    """
    if ranks.is_alone:
        return None
    devices = [ranks.device] if ranks.device.type == "cuda" else None
    excluded: dict[str, Any] = {_SYNC_BUFFERS: False}
    return DistributedDataParallel(model, device_ids=devices, gradient_as_bucket_view=True, **excluded)


def warm_up_ddp(ddp: DistributedDataParallel, *, height: int, width: int) -> None:
    """Make one backward pass on an image of this size, and discard its result.

    After the first pass of a process, PyTorch rearranges its gradient buckets in the order in which the gradients were
    ready. With three or more ranks the buckets decide in which order gradients are added, so a resumed run must not
    begin with other buckets.
    """
    model: nn.Module = ddp.module
    training = {module: module.training for module in model.modules()}
    model.eval()  # keeps the running statistics
    device = next(model.parameters()).device
    ddp(torch.zeros(1, 1, height, width, device=device), torch.zeros(1, device=device)).sum().backward()
    for parameter in model.parameters():
        parameter.grad = None
    for module, was_training in training.items():
        module.training = was_training


def sync_gradients(ddp: DistributedDataParallel | None, *, now: bool) -> AbstractContextManager[None]:
    """Return a context in which backward passes add to the gradients, and average them over the ranks if `now`."""
    return nullcontext() if ddp is None or now else ddp.no_sync()


def convert_sync_batch_norm(model: Model) -> Model:
    """Replace batch norms with ones that use the statistics of the global batch; weights and names do not change.

    Each of their layers then waits for the GPU in every step.

    Raises:
        ConfigError: if the model is not on a CUDA device, or has batch norms that do more than normalize.
    """
    if next(model.parameters()).device.type != "cuda":
        raise ConfigError(
            "sync_batch_norm works on CUDA devices only",
            expected="--device cuda",
            got="--device cpu",
            do="leave it out, or use a model without batch norms, such as convnext_tiny",
        )
    refuse_special_norms(model)
    return nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-any-return, no-untyped-call]


def refuse_special_norms(model: nn.Module) -> None:
    """Check that all batch norms are PyTorch's own; the activations within those of timm would be lost.

    Raises:
        ConfigError: if there are others.
    """
    norms = {type(module) for module in model.modules() if isinstance(module, _BatchNorm)}
    if special := sorted(norm.__name__ for norm in norms - _PLAIN_NORMS):
        raise ConfigError(
            f"sync_batch_norm would replace layers that do more than normalize: {', '.join(special)}",
            expected="a model with the batch norms of PyTorch, or with none",
            got=special[0],
            do="leave sync_batch_norm out, or use a model of torchvision",
        )


@torch.no_grad()
def average_statistics(model: nn.Module, ranks: Ranks) -> None:
    """Set the running statistics of the batch norms in training mode to their means over the ranks."""
    if ranks.is_alone:
        return
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.training]
    local = [norm for norm in norms if not isinstance(norm, nn.SyncBatchNorm)]
    statistics = [tensor for norm in local for tensor in (norm.running_mean, norm.running_var) if tensor is not None]
    if not statistics:
        return
    ranks.sum_(*statistics)
    torch._foreach_div_(statistics, float(ranks.world_size))
