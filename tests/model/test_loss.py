import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from wds_bone.learn.settings import TrainConfig
from wds_bone.model.loss import LABEL_SD, LARGEST_RARITY, Target, rarity_weights, weighted_loss, widen_bins
from wds_bone.model.model import expected_age

TARGET = Target(mean_months=127.0, sd_months=41.0)
SETTINGS = {"target": TARGET, "beta_months": TrainConfig().loss_beta_months}


@given(num=st.integers(1, 8), padding=st.integers(0, 5), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_padding_changes_neither_loss_nor_gradient(num: int, padding: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    predicted = torch.randn(num, generator=generator)
    ages = torch.rand(num, generator=generator) * 228
    alone, padded = predicted.clone().requires_grad_(), F.pad(predicted, (0, padding), value=3.0).requires_grad_()
    weight = F.pad(torch.ones(num), (0, padding))
    loss = weighted_loss(alone, ages, torch.ones(num), **SETTINGS, num_samples=num)
    loss_padded = weighted_loss(padded, F.pad(ages, (0, padding)), weight, **SETTINGS, num_samples=num)
    loss.backward()
    loss_padded.backward()
    torch.testing.assert_close(loss, loss_padded)
    torch.testing.assert_close(alone.grad, padded.grad[:num])
    assert padded.grad[num:].abs().sum() == 0


def test_the_parts_of_a_batch_add_up_to_its_loss_and_a_sample_counts_the_same_next_to_rare_ages():
    predicted, ages = torch.linspace(-1.0, 1.0, 6), torch.tensor([20.0, 60.0, 90.0, 120.0, 150.0, 200.0])

    def loss_of(rows: slice, weight: torch.Tensor) -> torch.Tensor:
        return weighted_loss(predicted[rows], ages[rows], weight[rows], **SETTINGS, num_samples=6)

    weight = torch.tensor([4.0, 1.0, 0.5, 0.5, 0.5, 2.0])
    parts = [loss_of(rows, weight) for rows in (slice(0, 1), slice(1, 4), slice(4, 6))]
    torch.testing.assert_close(sum(parts), loss_of(slice(0, 6), weight))
    first, more = torch.eye(6)[0], weight.clone()
    more[1:] = 9.0
    torch.testing.assert_close(loss_of(slice(0, 6), 4.0 * first), loss_of(slice(0, 1), more))


def test_the_loss_is_quadratic_below_three_months_and_linear_above():
    def loss_at(error_months: float) -> float:
        predicted = torch.tensor([error_months / TARGET.sd_months])
        age = torch.tensor([TARGET.mean_months])
        return float(weighted_loss(predicted, age, torch.ones(1), **SETTINGS, num_samples=1)) * TARGET.sd_months

    assert loss_at(1.0) == pytest.approx(1.0 / 6, rel=1e-4)
    assert loss_at(3.0) == pytest.approx(1.5, rel=1e-4)
    assert loss_at(24.0) == pytest.approx(22.5, rel=1e-4)


def test_standardized_predictions_are_converted_to_months():
    assert TARGET.to_months(torch.tensor([-1.0, 0.0, 2.0])).tolist() == [86.0, 127.0, 209.0]


def test_the_loss_of_a_distribution_is_smallest_where_it_is_around_the_age():
    bins, ages, ones = torch.linspace(-3.5, 3.5, 71), torch.tensor([TARGET.mean_months]), torch.ones(1)

    def loss_of(center: float, sd: float) -> float:
        logits = -0.5 * ((bins[None] - center) / sd) ** 2
        return float(weighted_loss(logits, ages, ones, **SETTINGS, num_samples=1, bins=bins))

    assert loss_of(0.0, 0.15) == pytest.approx(0.0, abs=1e-4)
    assert loss_of(0.0, 0.15) < loss_of(0.0, 0.5) < loss_of(0.5, 0.5)


@example([100.0] * 99 + [200.0], 71)
@example([100.0] * 99 + [0.0], 47)
@given(st.lists(st.floats(0, 250, width=32), min_size=1, max_size=50), st.integers(40, 200))
def test_the_label_distribution_of_every_training_age_has_that_age_as_its_mean(ages: list[float], num_bins: int):
    months = np.array(ages, np.float32)
    target = Target(mean_months=float(months.mean()), sd_months=max(float(months.std()), 1.0))
    bins = widen_bins(torch.linspace(-3.5, 3.5, num_bins), months, target)
    standardized = (torch.from_numpy(months) - target.mean_months) / target.sd_months
    labels = -0.5 * ((bins - standardized[:, None]) / LABEL_SD) ** 2
    torch.testing.assert_close(expected_age(labels, bins), standardized, atol=0.01, rtol=0.0)


def test_rare_ages_have_higher_weights_up_to_a_limit_and_their_mean_is_1():
    ages = np.concatenate([np.full(900, 120.0), np.full(400, 60.0), [3.0, 200.0]]).astype(np.float32)
    weights = rarity_weights(ages, 0.5)
    months = ages.astype(int)
    assert weights.shape == (201,)
    assert weights[3] == weights[200] > weights[60] > weights[120]
    assert weights[months].mean() == pytest.approx(1.0)
    assert weights.max() / weights[120] < LARGEST_RARITY
    assert rarity_weights(ages, 0.0) == pytest.approx(np.ones(201))
