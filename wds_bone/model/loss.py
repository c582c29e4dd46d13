"""The loss, relative to the standard deviation of the ages.

In: the output of the model, and ages in months.
Out: a scalar.
Invariant: each sample contributes in proportion to its weight, whatever else is in its batch, so padding has no effect.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from wds_bone.errors import ConfigError
from wds_bone.model.model import HIGHEST_BIN, LOWEST_BIN, expected_age

LABEL_SD = 0.15
"""The standard deviation of a label distribution, relative to that of the training ages: six months for the RSNA films.
The standard deviation between raters is 0.58 years in Martin et al. (Scientific Reports 12:6388, 2022)."""
LARGEST_BIN_STEP = 2.0 * LABEL_SD
"""With bins farther apart, the expectation of a label distribution would not be the age."""
BIN_MARGIN = 2.0 * LABEL_SD
"""How far the bins reach beyond the ages of the samples. What a label distribution has outside of them is lost, which
moves the expectation of the youngest or the oldest sample by at most 0.01 standard deviations of the ages."""
SMALLEST_NUM_BINS = 1 + math.ceil((HIGHEST_BIN - LOWEST_BIN) / LARGEST_BIN_STEP)
DENSITY_SD_MONTHS, LARGEST_RARITY = 6, 4.0


@dataclass(frozen=True)
class Target:
    """The mean and the standard deviation of the training ages, by which the model's output is standardized."""

    mean_months: float
    sd_months: float

    def to_months(self, standardized: Tensor) -> Tensor:
        """Return the model's output as ages in months."""
        return standardized * self.sd_months + self.mean_months


def widen_bins(bins: Tensor, ages_months: NDArray[np.float32], target: Target) -> Tensor:
    """Return the bins of a model, or the same number over a wider range, to cover the ages of all training samples.

    Args:
        bins: float32 (bins,), standardized ages in equal steps.
        ages_months: float32 (n,), of the training samples.
        target: the mean and standard deviation of these ages.

    Raises:
        ConfigError: if so few bins would be too far apart.
    """
    youngest, oldest = (
        (float(age) - target.mean_months) / target.sd_months for age in (ages_months.min(), ages_months.max())
    )
    lowest, highest = min(float(bins[0]), youngest - BIN_MARGIN), max(float(bins[-1]), oldest + BIN_MARGIN)
    needed = 1 + math.ceil((highest - lowest) / LARGEST_BIN_STEP)
    if len(bins) < needed:
        raise ConfigError(
            f"--set age_bins={len(bins)}: so few bins cannot cover the ages of all training samples, "
            f"{ages_months.min():.1f} to {ages_months.max():.1f} months",
            expected=f"0, or at least {needed}",
            got=len(bins),
            do=f"use --set age_bins={needed}, or age_bins=0 to predict the age itself; leave --init-weights out if the "
            "model has other bins",
        )
    return torch.linspace(lowest, highest, len(bins))


def weighted_loss(
    outputs: Tensor,
    age_months: Tensor,
    weight: Tensor,
    *,
    target: Target,
    beta_months: float,
    num_samples: int,
    bins: Tensor | None = None,
) -> Tensor:
    """Return the contribution of some samples to the loss of their global batch: sum(weight x loss) / num_samples.

    It is the SmoothL1 loss, divided by the standard deviation of the ages, so that the gradient does not depend on the
    unit; for distributions, that of the expectation plus the divergence from a normal distribution around the age (Gao
    et al., "Age Estimation Using Expectation of Label Distribution Learning", IJCAI 2018). The contributions of all
    samples of a global batch, on any rank, add up to its loss.

    The weights of a set have a mean of 1, those of a batch need not if rare ages weigh more (`rarity_weights`).
    Dividing by the number of samples lets a sample count equally in every batch, however that is divided among ranks
    and parts; dividing by the sum of the weights would let it count less next to rare ages.

    Args:
        outputs: the model's output: float32 (B,), standardized ages, or (B, bins), the logits of a distribution.
        age_months: float32 (B,).
        weight: float32 (B,), 0 for padding; 1 on average over the other samples of the set.
        target: the mean and standard deviation by which the output is standardized.
        beta_months: error at which the loss changes from quadratic to linear.
        num_samples: number of samples in the global batch without padding, over all its parts and ranks.
        bins: float32 (bins,), the standardized ages of a distribution; None if the output is ages.
    """
    standardized = outputs if bins is None else expected_age(outputs, bins)
    error_months = F.smooth_l1_loss(target.to_months(standardized), age_months, beta=beta_months, reduction="none")
    losses = error_months / target.sd_months
    if bins is not None:
        losses = losses + _divergence(outputs, (age_months - target.mean_months) / target.sd_months, bins)
    return torch.sum(weight * losses) / num_samples


def rarity_weights(ages_months: NDArray[np.float32], exponent: float) -> NDArray[np.float32]:
    """Return a weight for each age in whole months, which is higher for rare ages; their mean over the samples is 1.

    The weight is a power of the smoothed density of the ages (Yang et al., "Delving into Deep Imbalanced Regression",
    ICML 2021), at most 4 times that of the mean density.

    Args:
        ages_months: (n,), of the training samples.
        exponent: 0 for equal weights, 1 for weights that make all ages equally important.

    Returns:
        float32 (months,), from 0 to the highest age.
    """
    months = np.rint(ages_months).astype(np.int64)
    distance = np.arange(-3 * DENSITY_SD_MONTHS, 3 * DENSITY_SD_MONTHS + 1) / DENSITY_SD_MONTHS
    density = np.convolve(np.bincount(months), np.exp(-0.5 * distance**2))[len(distance) // 2 :][: months.max() + 1]
    rarity = np.minimum(density[months].mean() / np.maximum(density, 1e-9), LARGEST_RARITY) ** exponent
    weights: NDArray[np.float32] = (rarity / rarity[months].mean()).astype(np.float32)
    return weights


def _divergence(logits: Tensor, standardized_age: Tensor, bins: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergences of distributions from normal ones around the ages, float32 (B,)."""
    wanted = (-0.5 * ((bins - standardized_age[:, None]) / LABEL_SD) ** 2).log_softmax(1)
    return F.kl_div(logits.log_softmax(1), wanted, log_target=True, reduction="none").sum(1)
