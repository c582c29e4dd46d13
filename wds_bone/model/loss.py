"""The loss, in months.

In: standardized predictions, and ages in months.
Out: a scalar.
Invariant: each sample contributes in proportion to its weight, so padding has no effect.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Target:
    """The mean and the standard deviation of the training ages, by which the model's output is standardized."""

    mean_months: float
    sd_months: float

    def to_months(self, standardized: Tensor) -> Tensor:
        """Return the model's output as ages in months."""
        return standardized * self.sd_months + self.mean_months


def weighted_loss(
    standardized: Tensor, age_months: Tensor, weight: Tensor, *, target: Target, beta_months: float, weight_sum: float
) -> Tensor:
    """Return the contribution of some samples to the weighted mean SmoothL1 loss of their global batch.

    It is divided by the standard deviation of the ages, so that the gradient does not depend on the unit. The
    contributions of all samples of a global batch, on any rank, add up to its loss.

    Args:
        standardized: float32 (B,), the model's output.
        age_months: float32 (B,).
        weight: float32 (B,), 0 for padding.
        target: the mean and standard deviation by which the output is standardized.
        beta_months: error at which the loss changes from quadratic to linear.
        weight_sum: sum of the weights of the global batch, over all its parts and ranks.
    """
    error_months = F.smooth_l1_loss(target.to_months(standardized), age_months, beta=beta_months, reduction="none")
    return torch.sum(weight * error_months) / weight_sum / target.sd_months
