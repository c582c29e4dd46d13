"""Move batches to the device; to CUDA one batch ahead, on a side stream, so that the model never waits for a copy.

In: `(BatchPlan, Batch)` pairs, in page-locked memory for CUDA.
Out: the same pairs with the batches on the device, in order.
Invariant: before a batch is yielded, the current CUDA stream is made to wait for its copy.
"""

from collections.abc import Iterable, Iterator

import torch

from wds_bone.stream.batch import Batch
from wds_bone.stream.plan import BatchPlan

Planned = tuple[BatchPlan, Batch]


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
    side_stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    ahead: tuple[BatchPlan, Batch, torch.cuda.Event] | None = None
    for plan, batch in batches:
        copied = plan, *_copy(batch, device, side_stream)
        if ahead is not None:
            yield _wait(*ahead)
        ahead = copied
    if ahead is not None:
        yield _wait(*ahead)


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
