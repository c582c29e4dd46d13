"""Assemble what training changes: the model, its moving average, and its optimizer.

In: the settings of a run, the image size, and the ages of the training samples.
Out: a `Learner`, whose state is saved in checkpoints and restored from them.
Invariant: a restored learner equals the saved one, bit for bit.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from wds_bone.distributed.ddp import convert_sync_batch_norm, warm_up_ddp, wrap_ddp
from wds_bone.distributed.hardware import dtype_of
from wds_bone.distributed.ranks import Ranks
from wds_bone.inference.predictor import Predictor
from wds_bone.learn.optimizer import AveragedTensors, build_optimizer, copy_for_ema, pair_tensors
from wds_bone.learn.settings import TrainConfig
from wds_bone.model.layers import new_layers
from wds_bone.model.loss import Target, rarity_weights, widen_bins
from wds_bone.model.model import BoneAgeModel
from wds_bone.model.preprocess import Preprocessing


@dataclass
class Learner:
    """What a step changes, and what it needs to do so.

    Attributes:
        model: the model that is trained.
        ema: the moving average of `model`, which is used for validation and prediction.
        averaged: the tensors of both.
        forward: the function that calls `model`: the model itself, possibly wrapped and compiled.
        ddp: the wrapper that averages gradients over the ranks; None without a launcher.
        optimizer: the optimizer of the parameters of `model`.
        preprocessing: converts stored images to the model's input.
        target: converts the model's output to months.
        age_weights: float32 (months,), the weight of each age in the loss; None if all have the same.
        precision: the dtype of the forward pass, float32 or bfloat16.
    """

    model: BoneAgeModel
    ema: BoneAgeModel
    averaged: AveragedTensors
    forward: Callable[[Tensor, Tensor], Tensor]
    ddp: DistributedDataParallel | None
    optimizer: torch.optim.AdamW
    preprocessing: Preprocessing
    target: Target
    age_weights: Tensor | None
    precision: torch.dtype


def build_learner(
    model: BoneAgeModel,
    config: TrainConfig,
    ranks: Ranks,
    *,
    preprocessing: Preprocessing,
    ages_months: NDArray[np.float32],
) -> Learner:
    """Move a model to its device and add what training needs, some of which depends on the ages of the samples.

    Raises:
        ConfigError: if batch norms are to be synchronized on a CPU, or the bins of a distribution are too few.
    """
    target = target_of(ages_months)
    if model.bins is not None:
        model.use_bins(widen_bins(model.bins, ages_months, target))
    model = model.to(ranks.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    model = convert_sync_batch_norm(model) if config.sync_batch_norm else model
    ddp = wrap_ddp(model, ranks)
    if ddp is not None:
        warm_up_ddp(ddp, height=preprocessing.height, width=preprocessing.width)
    forward: nn.Module = ddp or model
    ema = copy_for_ema(model)  # copied after all ranks have received the same weights
    return Learner(
        model=model,
        ema=ema,
        averaged=pair_tensors(ema, model),
        forward=torch.compile(forward) if config.compile else forward,
        ddp=ddp,
        optimizer=build_optimizer(model, config, new_layers=new_layers(model)),
        preprocessing=preprocessing,
        target=target,
        age_weights=age_weights_of(ages_months, config.rare_ages, ranks.device),
        precision=dtype_of(config.precision),
    )


def target_of(ages_months: NDArray[np.float32]) -> Target:
    """Return the mean and the standard deviation (at least one month) of the training ages."""
    ages = ages_months.astype(np.float64)
    return Target(mean_months=float(ages.mean()), sd_months=max(float(ages.std()), 1.0))


def age_weights_of(ages_months: NDArray[np.float32], exponent: float, device: torch.device) -> Tensor | None:
    """Return the weight of each age in whole months in the loss; None if all have the same."""
    return torch.from_numpy(rarity_weights(ages_months, exponent)).to(device) if exponent else None


def predictor_of(learner: Learner) -> Predictor:
    """Return a predictor with a learner's averaged weights, which changes whenever they do."""
    return Predictor(learner.ema, learner.preprocessing, learner.target, learner.precision)


def learner_state(learner: Learner) -> dict[str, Any]:
    """Return everything that a step changes or that prediction needs, as tensors and plain types."""
    return {
        "model": learner.model.state_dict(),
        "ema": learner.ema.state_dict(),
        "optimizer": learner.optimizer.state_dict(),
        "preprocessing": learner.preprocessing.to_json(),
        "target": asdict(learner.target),
    }


def restore_learner(learner: Learner, contents: dict[str, Any]) -> None:
    """Set a learner of the same settings to the state in a checkpoint."""
    learner.preprocessing = Preprocessing.from_json(contents["preprocessing"])
    learner.model.load_state_dict(contents["model"])
    learner.ema.load_state_dict(contents["ema"])
    learner.optimizer.load_state_dict(contents["optimizer"])
