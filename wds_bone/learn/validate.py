"""A predictor and an unshuffled stream -> predictions, each sample once.

In comes one epoch of batches, out go arrays. The invariant: padding counts for nothing, and the weights sum to the
number of samples in the stream.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wds_bone.distributed.ranks import Ranks
from wds_bone.errors import WdsBoneError
from wds_bone.model.predictor import Predictor
from wds_bone.stream.batch import Batch
from wds_bone.stream.stream import BoneAgeStream


@dataclass(frozen=True)
class Predictions:
    """What was predicted for each sample, in the order of the stream.

    Attributes:
        key: n sample keys.
        gender: float32 (n,), 1 male and 0 female.
        age_months: float32 (n,), the labels.
        predicted_months: float32 (n,).
    """

    key: list[str]
    gender: NDArray[np.float32]
    age_months: NDArray[np.float32]
    predicted_months: NDArray[np.float32]


def predict_epoch(
    predictor: Predictor,
    stream: BoneAgeStream,
    ranks: Ranks,
    *,
    told_gender: NDArray[np.float32] | None = None,
    give_up: Callable[[], bool] = lambda: False,
) -> Predictions | None:
    """Predict every sample of the stream's first epoch once, each rank its rows, and return all of them on every rank.

    Args:
        predictor: on the stream's device.
        stream: opened with `shuffle=False`, and for these ranks.
        ranks: which share the work.
        told_gender: float32 (n,), what the model is told in the place of the true genders, in the order of the stream.
        give_up: asked after each batch; must say the same on all ranks.

    Returns:
        The predictions, or None as soon as `give_up` says so.
    """
    stream.set_epoch(0)
    columns: list[Tensor] = []
    for number, batch in enumerate(stream, 1):
        ranks.activity = f"batch {number} of an evaluation"
        predicted_months = predictor.predict_months(batch.image, _told_to_model(batch, told_gender))
        columns.append(torch.stack([predicted_months, batch.weight, batch.gender, batch.age_months]))
        if give_up():
            return None
    # (ranks, batches, columns, rows): the rows of all ranks side by side make a batch.
    gathered = ranks.gather(torch.stack(columns)).cpu().numpy()
    predicted, weight, gender, age_months = gathered.transpose(2, 1, 0, 3).reshape(4, -1)
    real, num_samples = weight > 0, stream.num_samples
    assert weight.sum() == num_samples == real[:num_samples].sum(), (weight.sum(), num_samples)
    return Predictions(stream.keys(), gender[real], age_months[real], predicted[real])


def refuse_not_finite(predicted_months: NDArray[np.float32], keys: Sequence[str], *, where: str) -> None:
    """Raise unless all predictions are finite numbers.

    Args:
        predicted_months: float32 (n,).
        keys: n names of what they were predicted for.
        where: where the model comes from.

    Raises:
        WdsBoneError: with the first key whose prediction is not.
    """
    finite = np.isfinite(predicted_months)
    if finite.all():
        return
    num_bad, first = int(np.sum(~finite)), int(np.argmin(finite))
    raise WdsBoneError(
        f"{where}: {num_bad:,} predictions are not finite, the first for '{keys[first]}'",
        expected="ages in months",
        got=predicted_months[first],
        do="look at that image; if it is like the others, take an earlier checkpoint or train anew with a lower --lr",
    )


def _told_to_model(batch: Batch, told_gender: NDArray[np.float32] | None) -> Tensor:
    """Return the genders of a batch of the first epoch; what padding is told does not matter."""
    if told_gender is None:
        return batch.gender
    told = told_gender[batch.position.cpu().numpy() % len(told_gender)]
    return torch.from_numpy(told).to(batch.gender.device)
