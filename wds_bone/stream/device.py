"""Find the device, and move batches to it.

To CUDA they are copied one batch ahead, on a side stream, so that the model never waits for a copy.

In: `(BatchPlan, Batch)` pairs, in page-locked memory for CUDA.
Out: the same pairs with the batches on the device, in order.
Invariant: before a batch is yielded, the current CUDA stream is made to wait for its copy.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache

import torch

from wds_bone.errors import ConfigError
from wds_bone.stream.batch import Batch
from wds_bone.stream.plan import BatchPlan

Planned = tuple[BatchPlan, Batch]


def find_device(wanted: str | torch.device) -> torch.device:
    """Return the device of that name.

    Raises:
        ConfigError: if torch does not know it, or this machine does not have it.
    """
    try:
        device = torch.device(wanted)
    except (RuntimeError, TypeError) as error:
        problem, got = f"device {wanted!r} is unknown to torch", str(error).splitlines()[0]
        raise ConfigError(problem, expected="'cpu', 'cuda' or 'cuda:1'", got=got, do="use one of these") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise no_cuda_error(f"device {str(device)!r}", alternative="device='cpu'")
    if device.type == "cuda" and device.index is not None and device.index >= torch.cuda.device_count():
        expected = f"one of {torch.cuda.device_count()} devices, counted from 0"
        raise ConfigError(f"device {str(device)!r} does not exist", expected=expected, do="use another number")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device 'mps' is not available on this machine", do="use device='cpu'")
    return device


def no_cuda_error(setting: str, *, alternative: str) -> ConfigError:
    """Return the error for a `setting` that needs CUDA where there is none."""
    cuda = torch.version.cuda
    check = "check `nvidia-smi`" if cuda else "install a torch that is built for CUDA"
    return ConfigError(
        f"{setting}: no CUDA device is available",
        expected="a device and a driver that this torch supports",
        got=f"torch {torch.__version__}, built {f'for CUDA {cuda}' if cuda else 'without CUDA'}",
        do=f"{check}, or use {alternative}",
    )


def to_device(batches: Iterable[Planned], device: torch.device) -> Iterator[Planned]:
    """Yield the batches on `device`; on the CPU they are the same objects."""
    if device.type == "cuda":
        yield from _copy_ahead(batches, device)
    elif device.type == "cpu":
        yield from batches
    else:
        for plan, batch in batches:
            yield plan, batch.to(device)


def _copy_ahead(batches: Iterable[Planned], device: torch.device) -> Iterator[Planned]:
    """Yield the batches; while one is in use, the next one is being copied."""
    index = torch.cuda.current_device() if device.index is None else device.index
    side_stream = _side_stream(index)
    ahead: tuple[BatchPlan, Batch, torch.cuda.Event] | None = None
    for plan, batch in batches:
        copied = plan, *_copy(batch, device, side_stream)
        if ahead is not None:
            yield _wait(*ahead)
        ahead = copied
    if ahead is not None:
        yield _wait(*ahead)


@lru_cache
def _side_stream(index: int) -> torch.cuda.Stream:
    """Return the stream for copies to the CUDA device of that number.

    It is always the same one, because torch uses freed memory again only in the stream for which it was allocated.
    """
    return torch.cuda.Stream(index)  # type: ignore[no-untyped-call]


def _copy(batch: Batch, device: torch.device, side_stream: torch.cuda.Stream) -> tuple[Batch, torch.cuda.Event]:
    with torch.cuda.stream(side_stream):
        copied = batch.to(device, non_blocking=True)
        return copied, side_stream.record_event()


def _wait(plan: BatchPlan, batch: Batch, copied: torch.cuda.Event) -> Planned:
    current = torch.cuda.current_stream(batch.image.device)
    current.wait_event(copied)
    for tensor in batch.tensors().values():
        tensor.record_stream(current)  # the allocator must not reuse the memory while the model reads it
    return plan, batch
