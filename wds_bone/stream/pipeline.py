"""The pipeline between the order of the samples and the model, as a `webdataset.DataPipeline`.

    plan        -> BatchPlan             which samples make up each batch
    look up     -> Request               their labels, and where their images are stored
    load        -> (BatchPlan, Batch)    read, checked and decoded by threads, straight into the batch
    to device   -> (BatchPlan, Batch)    on the device; copied one batch ahead for CUDA

Each stage is a generator over the output of the one above it, so each can be tested or replaced on its own. Each
plan is passed on with its batch, so the receiver of a batch knows its position.
"""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from webdataset import DataPipeline

from wds_bone.stream.device import to_device
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
