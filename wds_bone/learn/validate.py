"""Predict every sample of an unshuffled stream once.

In: a predictor and one epoch of batches.
Out: `Predictions`.
Invariant: padding has no effect, and the weights sum to the number of samples in the stream.
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
    """The prediction for each sample, in the order of the stream.

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
    gender_input: NDArray[np.float32] | None = None,
    give_up: Callable[[], bool] = lambda: False,
) -> Predictions | None:
    """Predict every sample of the first epoch once; each rank predicts its rows, and all ranks get all predictions.

    Args:
        predictor: the predictor, on the stream's device.
        stream: the samples, opened with `shuffle=False` for these ranks.
        ranks: the ranks that share the work.
        gender_input: float32 (n,), the genders to use instead of the true ones, in the order of the stream.
        give_up: called after each batch; must return the same on all ranks.

    Returns:
        The predictions, or None as soon as `give_up` returns True.
    """
    stream.set_epoch(0)
    columns: list[Tensor] = []
    for number, batch in enumerate(stream, 1):
        ranks.activity = f"batch {number} of an evaluation"
        predicted_months = predictor.predict_months(batch.image, _gender_of(batch, gender_input))
        columns.append(torch.stack([predicted_months, batch.weight, batch.gender, batch.age_months]))
        if give_up():
            return None
    # (ranks, batches, columns, rows): a batch consists of the rows of all ranks, in the order of the ranks.
    gathered = ranks.gather(torch.stack(columns)).cpu().numpy()
    predicted, weight, gender, age_months = gathered.transpose(2, 1, 0, 3).reshape(4, -1)
    real, num_samples = weight > 0, stream.num_samples
    if not weight.sum() == num_samples == real[:num_samples].sum():
        raise RuntimeError(f"the ranks delivered {weight.sum():g} samples, not {num_samples}, or padding among them")
    return Predictions(stream.keys(), gender[real], age_months[real], predicted[real])


def refuse_not_finite(predicted_months: NDArray[np.float32], keys: Sequence[str], *, where: str) -> None:
    """Check that all predictions are finite numbers.

    Args:
        predicted_months: float32 (n,).
        keys: the names of the n samples or films.
        where: location for the error message.

    Raises:
        WdsBoneError: if one is not; the error names the first one.
    """
    finite = np.isfinite(predicted_months)
    if finite.all():
        return
    num_bad, first = int(np.sum(~finite)), int(np.argmin(finite))
    found = f"the prediction for '{keys[first]}' is not finite"
    if num_bad > 1:
        found = f"{num_bad:,} predictions are not finite, the first for '{keys[first]}'"
    raise WdsBoneError(
        f"{where}: {found}",
        expected="ages in months",
        got=predicted_months[first],
        do="look at that image; if it is like the others, use an earlier checkpoint, or train again with a lower --lr "
        "and another --out",
    )


def _gender_of(batch: Batch, gender_input: NDArray[np.float32] | None) -> Tensor:
    """Return the genders that the model receives for a batch of the first epoch; those of padding do not matter."""
    if gender_input is None:
        return batch.gender
    given = gender_input[batch.position.cpu().numpy() % len(gender_input)]
    return torch.from_numpy(given).to(batch.gender.device)
