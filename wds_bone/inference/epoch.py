"""Predict every sample of an unshuffled stream once.

In: an ensemble and one epoch of batches.
Out: `Predictions`.
Invariant: padding has no effect, and the weights sum to the number of samples in the stream.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wds_bone.distributed.ranks import Ranks
from wds_bone.inference.ensemble import Ensemble
from wds_bone.inference.predictions import Predictions
from wds_bone.stream.batch import Batch
from wds_bone.stream.stream import BoneAgeStream


def predict_epoch(
    ensemble: Ensemble,
    stream: BoneAgeStream,
    ranks: Ranks,
    *,
    gender_input: NDArray[np.float32] | None = None,
    give_up: Callable[[], bool] = lambda: False,
    show: Callable[[int], None] = lambda _: None,
) -> Predictions | None:
    """Predict every sample of the first epoch once; each rank predicts its rows, and all ranks get all predictions.

    Args:
        ensemble: the models, on the stream's device.
        stream: the samples, opened with `shuffle=False` for these ranks.
        ranks: the ranks that share the work.
        gender_input: float32 (n,), the genders to use instead of the true ones, in the order of the stream.
        give_up: called after each batch; must return the same on all ranks.
        show: called after each batch with the number of samples that all ranks have predicted so far.

    Returns:
        The predictions, or None as soon as `give_up` returns True.
    """
    stream.set_epoch(0)
    columns: list[Tensor] = []
    for number, batch in enumerate(stream, 1):
        ranks.activity = f"batch {number} of an evaluation"
        given_gender = _gender_of(batch, gender_input)
        member_months = ensemble.predict_members(batch.image, given_gender)
        labels = torch.stack([batch.weight, batch.gender, batch.age_months, given_gender])
        columns.append(torch.cat([labels, member_months]))
        if give_up():
            return None
        show(min(number * len(batch.key) * ranks.world_size, stream.num_samples))
    # (ranks, batches, columns, rows): a batch consists of the rows of all ranks, in the order of the ranks.
    gathered = ranks.gather(torch.stack(columns)).cpu().numpy()
    weight, gender, age_months, given, *predicted = gathered.transpose(2, 1, 0, 3).reshape(len(columns[0]), -1)
    real, num_samples = weight > 0, stream.num_samples
    if not weight.sum() == num_samples == real[:num_samples].sum():
        raise RuntimeError(f"the ranks delivered {weight.sum():g} samples, not {num_samples}, or padding among them")
    months, interval = ensemble.combine(np.stack(predicted)[:, real], given[real])
    return Predictions(stream.keys(), gender[real], age_months[real], months, interval)


def _gender_of(batch: Batch, gender_input: NDArray[np.float32] | None) -> Tensor:
    """Return the genders that the model receives for a batch of the first epoch; those of padding do not matter."""
    if gender_input is None:
        return batch.gender
    given = gender_input[batch.position.cpu().numpy() % len(gender_input)]
    return torch.from_numpy(given).to(batch.gender.device)
