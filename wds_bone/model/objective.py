"""Predictions and ages -> the loss.

In come standardized predictions and ages in months, out goes a scalar. The invariant: a sample counts with its weight,
so that padding counts for nothing.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

BETA_MONTHS = 3.0


@dataclass(frozen=True)
class Target:
    """Mean and standard deviation of the training ages, which standardize the model's output."""

    mean_months: float
    sd_months: float

    def to_months(self, standardized: Tensor) -> Tensor:
        """Return the model's output as ages in months."""
        return standardized * self.sd_months + self.mean_months


def weighted_loss(
    standardized: Tensor, age_months: Tensor, weight: Tensor, *, target: Target, weight_sum: float
) -> Tensor:
    """Return the share of some samples in a weighted mean SmoothL1 loss: squared below 3 months, linear above.

    Divided by the standard deviation, so that the gradient does not depend on the unit. The shares of all samples of a
    batch, wherever they are computed, add up to its loss.

    Args:
        standardized: float32 (B,), the model's output.
        age_months: float32 (B,).
        weight: float32 (B,), 0 for padding.
        target: what standardizes the ages.
        weight_sum: of the whole batch, over all its parts and ranks.
    """
    error_months = F.smooth_l1_loss(target.to_months(standardized), age_months, beta=BETA_MONTHS, reduction="none")
    return torch.sum(weight * error_months) / weight_sum / target.sd_months
