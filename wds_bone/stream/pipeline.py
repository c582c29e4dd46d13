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


class Delivery:
    """Compares every key and weight that one loop hands out with its plan; a difference is a bug of a stage.

    Keys are on the host. Wrong weights on a device are counted there, and the count is read once per epoch, because
    reading it waits for the device.
    """

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._num_wrong: Tensor | int = 0

    def check(self, delivered: Planned | None, *, position: int) -> Planned:
        """Return the plan and the batch that are due at `position`.

        Raises:
            RuntimeError: if a batch or a sample is missing, repeated or reordered, or has a wrong weight.
        """
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

    def _check_weights(self, plan: BatchPlan, batch: Batch) -> None:
        num_samples, weight = len(plan.samples), batch.weight
        if weight.device.type == "cpu":
            self._num_wrong = int(np.count_nonzero(weight.numpy() != (np.arange(len(weight)) < num_samples)))
        else:
            self._num_wrong += (weight[:num_samples] != 1).sum() + weight[num_samples:].count_nonzero()
            ends_epoch = plan.stop // self._selection.num_samples > plan.start // self._selection.num_samples
            if weight.is_meta or not ends_epoch:
                return
        if self._num_wrong:
            raise RuntimeError(
                f"up to position {plan.stop}, the pipeline delivered {int(self._num_wrong)} wrong weights"
            )


def _difference(got: list[str], expected: list[str]) -> str:
    if len(got) != len(expected):
        return f"{len(got)} keys, not {len(expected)}"
    row, *_ = (row for row in range(len(got)) if got[row] != expected[row])
    return f"{got[row]!r} in row {row}, not {expected[row]!r}"
