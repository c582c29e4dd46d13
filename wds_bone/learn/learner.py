"""What learns, put together: the model, its average, its optimizer and how its input and output are scaled.

In come the settings of a run and the training stream's facts, out goes a `Learner`; its state goes into a checkpoint
and comes back exactly. The invariant: a learner built and restored equals the one that was saved, bit for bit.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from wds_bone.distributed.parallel import settle_buckets, share_norms, spread_model
from wds_bone.distributed.ranks import Ranks
from wds_bone.learn.average import copy_for_average
from wds_bone.learn.optimizer import build_optimizer
from wds_bone.model.model import BoneAgeModel
from wds_bone.model.objective import Target
from wds_bone.model.predictor import Predictor
from wds_bone.model.preprocess import Preprocessing


@dataclass(frozen=True)
class Learner:
    """Objects that stay while their contents change from step to step.

    Attributes:
        model: what the gradients move.
        average: the moving average of `model`, which is validated and used.
        forward: `model` as it is called: itself, spread over the ranks, or compiled.
        parallel: what spreads it over the ranks; None for a single process.
        optimizer: of `model`'s parameters.
        preprocessing: from stored images to the model's input.
        target: from the model's output to months.
        precision: of the forward pass, float32 or bfloat16.
    """

    model: BoneAgeModel
    average: BoneAgeModel
    forward: Callable[[Tensor, Tensor], Tensor]
    parallel: DistributedDataParallel | None
    optimizer: torch.optim.AdamW
    preprocessing: Preprocessing
    target: Target
    precision: torch.dtype


def assemble_learner(
    model: BoneAgeModel,
    *,
    ranks: Ranks,
    preprocessing: Preprocessing,
    target: Target,
    precision: torch.dtype,
    weight_decay: float,
    compiled: bool,
    shared_norms: bool,
) -> Learner:
    """Put a model onto its device and give it what training needs."""
    model = model.to(ranks.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    model = share_norms(model) if shared_norms else model
    parallel = spread_model(model, ranks)
    if parallel is not None:
        settle_buckets(parallel, preprocessing)
    forward: nn.Module = parallel or model
    return Learner(
        model=model,
        average=copy_for_average(model),  # after the ranks have been given the same weights
        forward=torch.compile(forward) if compiled else forward,
        parallel=parallel,
        optimizer=build_optimizer(model, weight_decay=weight_decay),
        preprocessing=preprocessing,
        target=target,
        precision=precision,
    )


def target_of(ages_months: NDArray[np.float32]) -> Target:
    """Return mean and deviation of the training ages; ages that are all alike count as one month apart."""
    ages = ages_months.astype(np.float64)
    return Target(mean_months=float(ages.mean()), sd_months=max(float(ages.std()), 1.0))


def predictor_of(learner: Learner) -> Predictor:
    """Return the predictor of a learner's average, which changes with it."""
    return Predictor(learner.average, learner.preprocessing, learner.target, learner.precision)


def learner_state(learner: Learner) -> dict[str, Any]:
    """Return all that a step changes, and what prediction needs, as tensors and plain types."""
    return {
        "model": learner.model.state_dict(),
        "average": learner.average.state_dict(),
        "optimizer": learner.optimizer.state_dict(),
        "preprocessing": learner.preprocessing.to_json(),
        "target": asdict(learner.target),
    }


def restore_learner(learner: Learner, contents: dict[str, Any]) -> None:
    """Set a learner of the same settings to the state in a checkpoint."""
    learner.model.load_state_dict(contents["model"])
    learner.average.load_state_dict(contents["average"])
    learner.optimizer.load_state_dict(contents["optimizer"])
