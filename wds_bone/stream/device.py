"""Copy batches to a CUDA device one ahead, on a stream of its own, so that the model never waits for a copy.

In: batches in page-locked memory. Out: the same batches on the device, in order. Invariant: a batch is handed out only
behind an event that says its copy is done.
"""

from collections.abc import Iterable, Iterator

import torch

from wds_bone.stream.batch import Batch


def copy_ahead(batches: Iterable[Batch], *, device: torch.device) -> Iterator[Batch]:
    """Yield `batches` on `device`, a CUDA device; while one is used, the next is being copied."""
    side_stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    ahead: tuple[Batch, torch.cuda.Event] | None = None
    for batch in batches:
        copied = _copy(batch, device, side_stream)
        if ahead is not None:
            yield _wait(*ahead)
        ahead = copied
    if ahead is not None:
        yield _wait(*ahead)


def _copy(batch: Batch, device: torch.device, side_stream: torch.cuda.Stream) -> tuple[Batch, torch.cuda.Event]:
    with torch.cuda.stream(side_stream):
        copied = batch.to(device, non_blocking=True)
        return copied, side_stream.record_event()


def _wait(batch: Batch, copied: torch.cuda.Event) -> Batch:
    current = torch.cuda.current_stream(batch.image.device)
    current.wait_event(copied)
    for tensor in batch.tensors().values():
        tensor.record_stream(current)  # the allocator must not reuse the memory while the model reads it
    return batch
