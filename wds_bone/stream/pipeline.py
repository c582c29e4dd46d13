"""The pipeline between the order of the samples and the model, as a `webdataset.DataPipeline`.

    plan        -> BatchPlan             which samples make up each batch
    look up     -> Request               their labels, and where their images are stored
    load        -> (BatchPlan, Batch)    read, checked and decoded by threads, straight into the batch
    to device   -> (BatchPlan, Batch)    on the device; copied one batch ahead for CUDA

Each stage is a generator over the output of the one above it, so each can be tested or replaced on its own. Each
plan is passed on with its batch, so the receiver of a batch knows its position. `Delivery` compares the batches that
arrive with their plans.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from webdataset import DataPipeline

from wds_bone.stream.batch import Batch
from wds_bone.stream.device import Planned, to_device
from wds_bone.stream.load import Loader
from wds_bone.stream.lookup import look_up
from wds_bone.stream.plan import BatchPlan
from wds_bone.stream.selection import Selection


def batch_pipeline(
    plan: Callable[[], Iterator[BatchPlan]], selection: Selection, loader: Loader, *, threads: int, device: torch.device
) -> DataPipeline:
    """Return the pipeline of `(BatchPlan, Batch)` pairs.

    Args:
        plan: yields the plans, from the position where the loop starts.
        selection: the shards and the table of their samples.
        loader: the loader of that selection.
        threads: number of threads that decode.
        device: where batches go.
    """
    return DataPipeline(
        plan,
        partial(look_up, selection=selection),
        partial(loader.batches, threads=threads),
        partial(to_device, device=device),
    )


@dataclass(frozen=True)
class _Count:
    """A number of wrong weights on its way to the host.

    Attributes:
        number: int64 scalar; on the host if the device is CUDA.
        stop: the position up to which weights were counted.
        copied: recorded once `number` has arrived from a CUDA device; None for other devices.
    """

    number: Tensor
    stop: int
    copied: torch.cuda.Event | None


class Delivery:
    """Compares every key and weight that a loop hands out with its plan; a difference is a bug of a stage.

    Keys are on the host. Wrong weights on a device are counted there. The count is copied to the host at the end of
    each epoch, and read when the next batch is due or at `finish`. Only the first batch of an epoch waits for the
    device, and at most for the step before the last one.

    Args:
        selection: the shards and the table of their samples.
        is_deferred: count wrong weights on their device, instead of reading them at once.
    """

    def __init__(self, selection: Selection, *, is_deferred: bool) -> None:
        self._selection, self._is_deferred = selection, is_deferred
        self._num_wrong: Tensor | None = None
        self._stop = 0
        self._copy: _Count | None = None

    def check(self, delivered: Planned | None, *, position: int) -> Planned:
        """Return the plan and the batch that are due at `position`.

        Raises:
            RuntimeError: if a batch or a sample is missing, repeated or reordered, or has a wrong weight; on a device,
                if one of an earlier epoch had.
        """
        self.check_copied()
        if delivered is None:
            raise RuntimeError(f"the pipeline ended at position {position}")
        plan, batch = delivered
        if plan.start != position:
            raise RuntimeError(f"the pipeline delivered the batch of position {plan.start}, not {position}")
        num_padding = len(plan.positions) - len(plan.samples)
        expected = self._selection.keys(plan.samples) + [""] * num_padding
        if batch.key != expected:
            raise RuntimeError(f"at position {position}, the pipeline delivered {_difference(batch.key, expected)}")
        self._check_weights(plan, batch)
        return plan, batch

    def check_copied(self) -> None:
        """Check the weights up to the last end of an epoch, if that was not done yet.

        Raises:
            RuntimeError: if some were wrong.
        """
        copy, self._copy = self._copy, None
        if copy is None:
            return
        if copy.copied is not None:
            copy.copied.synchronize()
        num_wrong = int(copy.number)
        if num_wrong:
            self._num_wrong = None  # an error is raised once
        _refuse_wrong(num_wrong, stop=copy.stop)

    def finish(self) -> None:
        """Check the weights of all batches so far; called when the loop has ended or been given up.

        Raises:
            RuntimeError: if some were wrong.
        """
        self._start_copy()
        self._num_wrong = None
        self.check_copied()

    def _check_weights(self, plan: BatchPlan, batch: Batch) -> None:
        num_samples, weight = len(plan.samples), batch.weight
        if not self._is_deferred:
            is_sample = np.arange(len(weight)) < num_samples
            _refuse_wrong(int(np.count_nonzero(weight.numpy() != is_sample)), stop=plan.stop)
        elif not weight.is_meta:
            num_wrong = (weight[:num_samples] != 1).sum() + weight[num_samples:].count_nonzero()
            self._num_wrong = num_wrong if self._num_wrong is None else self._num_wrong + num_wrong
            self._stop = plan.stop
            if plan.stop // self._selection.num_samples > plan.start // self._selection.num_samples:
                self._start_copy()

    def _start_copy(self) -> None:
        """Start to copy the count to the host; it may be read once the device has computed it."""
        number = self._num_wrong
        if number is None:
            return
        copied: torch.cuda.Event | None = None
        if number.is_cuda:
            stream = torch.cuda.current_stream(number.device)
            number = number.to("cpu", non_blocking=True)
            copied = stream.record_event()
        self._copy = _Count(number, self._stop, copied)


def _refuse_wrong(num_wrong: int, *, stop: int) -> None:
    if num_wrong:
        raise RuntimeError(f"up to position {stop}, the pipeline delivered {num_wrong} wrong weights")


def _difference(got: list[str], expected: list[str]) -> str:
    if len(got) != len(expected):
        return f"{len(got)} keys, not {len(expected)}"
    row, *_ = (row for row in range(len(got)) if got[row] != expected[row])
    return f"{got[row]!r} in row {row}, not {expected[row]!r}"
