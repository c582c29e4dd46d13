"""One model on many ranks: the same weights and statistics everywhere after every step.

In comes a model, out goes what is called in its place. The invariant: gradients are sums over the whole batch, and
running statistics means over the ranks, so that every rank holds the same model, bit for bit.
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
from wds_bone.model.preprocess import Preprocessing

_KEYWORDS = inspect.signature(DistributedDataParallel).parameters
_SYNC_BUFFERS = "forward_sync_buffers" if "forward_sync_buffers" in _KEYWORDS else "broadcast_buffers"
"""The second one is deprecated since torch 2.15, which has the first one."""
Model = TypeVar("Model", bound=nn.Module)


def spread_model(model: nn.Module, ranks: Ranks) -> DistributedDataParallel | None:
    """Wrap a model so that its backward pass averages the gradients over the ranks; None for a single process.

    Its buffers are left alone: PyTorch would give every rank the running statistics of rank 0's samples.
    """
    if ranks.world_size == 1:
        return None
    devices = [ranks.device] if ranks.device.type == "cuda" else None
    left_alone: dict[str, Any] = {_SYNC_BUFFERS: False}
    return DistributedDataParallel(model, device_ids=devices, gradient_as_bucket_view=True, **left_alone)


def settle_buckets(parallel: DistributedDataParallel, preprocessing: Preprocessing) -> None:
    """Make one backward pass that nothing is kept of.

    PyTorch packs the gradients anew, in the order in which they came, after the first pass of a process; over three
    ranks or more the packing decides in which order they are added up. A run that goes on must not begin with another.
    """
    model: nn.Module = parallel.module
    training = {module: module.training for module in model.modules()}
    model.eval()  # leaves the statistics alone
    device = next(model.parameters()).device
    image = torch.zeros(1, 1, preprocessing.height, preprocessing.width, device=device)
    parallel(image, torch.zeros(1, device=device)).sum().backward()
    for parameter in model.parameters():
        parameter.grad = None
    for module, was_training in training.items():
        module.training = was_training


def exchange_gradients(parallel: DistributedDataParallel | None, *, now: bool) -> AbstractContextManager[None]:
    """Return a context whose backward passes are exchanged between the ranks, or kept for a later one that is."""
    return nullcontext() if parallel is None or now else parallel.no_sync()


def share_norms(model: Model) -> Model:
    """Replace batch normalizations by ones that normalize with the whole batch of all ranks; same weights, same names.

    Raises:
        ConfigError: PyTorch has them on CUDA only.
    """
    if next(model.parameters()).device.type != "cuda":
        raise ConfigError(
            "sync_batch_norm works on CUDA devices only",
            expected="--device cuda",
            got="--device cpu",
            do="leave it out, or take a model without batch norms, such as convnext_tiny",
        )
    return nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-any-return, no-untyped-call]


@torch.no_grad()
def average_statistics(model: nn.Module, ranks: Ranks) -> None:
    """Set the running statistics of the batch norms that learn them to their means over the ranks."""
    if ranks.world_size == 1:
        return
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.training]
    local = [norm for norm in norms if not isinstance(norm, nn.SyncBatchNorm)]
    statistics = [tensor for norm in local for tensor in (norm.running_mean, norm.running_var) if tensor is not None]
    if not statistics:
        return
    ranks.sum_(*statistics)
    torch._foreach_div_(statistics, float(ranks.world_size))
