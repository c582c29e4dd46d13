"""Predict the labeled samples of shards.

In: an ensemble and shards.
Out: the predictions in the order of the shards.
Invariant: each sample is predicted once, and the predictions are bit for bit the same for any number of processes.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any

import numpy as np

from wds_bone.distributed.hardware import code_digest, installed_versions
from wds_bone.distributed.ranks import Ranks
from wds_bone.inference.ensemble import Ensemble
from wds_bone.inference.epoch import predict_epoch
from wds_bone.inference.labeled import Batching, GenderInput, Labeled, override_genders, refuse_large_batches
from wds_bone.interrupt import Interruption
from wds_bone.progress import progress
from wds_bone.stream.stream import BoneAgeStream


def predict_shards(
    ensemble: Ensemble,
    shards: Sequence[str],
    *,
    split: str | None,
    cache: str | None,
    batching: Batching,
    ranks: Ranks,
    interruption: Interruption,
    gender_input: GenderInput = "true",
) -> Labeled | None:
    """Predict every sample of a split once; all ranks get all predictions, or None after a signal to one of them.

    `cache` is that of a `BoneAgeStream`.

    Raises:
        WdsBoneError: if the shards do not match a checkpoint, or the memory is too small.
    """
    refuse_large_batches(ensemble, batching, ranks.device)
    with _open_stream(shards, split, batching, ranks, cache=cache) as stream:
        ensemble.refuse_other_format(stream.image_format, where=", ".join(shards))
        ranks.refuse_disagreement(_shared_description(ensemble, stream, batching, gender_input))
        given = stream.genders.astype(np.float32)
        is_true = gender_input == "true"  # then each batch has them already
        genders = None if is_true else override_genders(given, gender_input, digest=stream.order_digest)
        with interruption.deferred(), _progress(stream, ranks) as show:
            predictions = predict_epoch(
                ensemble,
                stream,
                ranks,
                gender_input=genders,
                give_up=lambda: ranks.any(interruption.is_requested),
                show=show,
            )
        return None if predictions is None else Labeled(predictions, {"shards": _describe_shards(stream, split)})


def _open_stream(
    shards: Sequence[str], split: str | None, batching: Batching, ranks: Ranks, *, cache: str | None
) -> BoneAgeStream:
    """Open the stream of this rank's samples, in the order of the shards.

    Each rank predicts whole batches of a single-process run, so that the predictions are bit for bit the same for any
    number of processes.
    """
    return BoneAgeStream(
        shards,
        batch_size=batching.batch_size * ranks.world_size,
        rank=ranks.rank,
        world_size=ranks.world_size,
        split=split,
        shuffle=False,
        threads=batching.num_threads(ranks.device),
        device=ranks.device,
        cache=cache,
    )


def _progress(stream: BoneAgeStream, ranks: Ranks) -> AbstractContextManager[Callable[[int], None]]:
    """Show the progress of all ranks, in the first one only."""
    if ranks.is_first:
        return progress(stream.num_samples, "sample", label="predict")
    return nullcontext(lambda _: None)


def _shared_description(
    ensemble: Ensemble, stream: BoneAgeStream, batching: Batching, gender_input: GenderInput
) -> dict[str, Any]:
    """Return what all ranks must agree on before the first batch, in plain JSON types."""
    return {
        "code": code_digest(),
        "versions": installed_versions(*(member.contents["config"]["model"] for member in ensemble.members)),
        "checkpoint_sha256": ensemble.sha256,
        "order_digest": stream.order_digest,
        "local_batch_size": batching.batch_size,
        "gender": gender_input,
    }


def _describe_shards(stream: BoneAgeStream, split: str | None) -> dict[str, Any]:
    """Return a description of the samples, in plain JSON types."""
    return {
        "split": split,
        "num_samples": stream.num_samples,
        "order_digest": stream.order_digest,
        "image_format": asdict(stream.image_format),
    }
