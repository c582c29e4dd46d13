"""Test the update of the weights, the learning rate, and the moving average."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from wds_bone.learn.optimizer import (
    build_optimizer,
    copy_for_ema,
    ema_decay,
    learning_rate,
    pair_tensors,
    update_ema,
    update_weights,
)
from wds_bone.learn.settings import TrainConfig, count_steps, default_ema

CLIP_NORM, WARMUP = TrainConfig().clip_norm, TrainConfig().warmup


def trained_model() -> tuple[nn.Module, torch.optim.AdamW]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    optimizer = build_optimizer(model, TrainConfig(weight_decay=0.1))
    loss = model(torch.randn(8, 3)).square().sum()
    loss.backward()
    assert update_weights(model, optimizer, loss=loss, rate=0.01, clip_norm=CLIP_NORM) == 0
    return model, optimizer


def bits_of(model: nn.Module, optimizer: torch.optim.AdamW) -> list[torch.Tensor]:
    states = [value for state in optimizer.state.values() for value in state.values()]
    return [tensor.detach().clone() for tensor in [*model.parameters(), *states]]


def test_the_rate_rises_by_equal_factors_from_the_first_layer_to_the_new_ones():
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(9)))
    optimizer = build_optimizer(model, TrainConfig(first_layer_rate=1 / 256), new_layers=[model[-1]])
    loss = model(torch.ones(1, 2)).sum()
    loss.backward()
    update_weights(model, optimizer, loss=loss, rate=0.5, clip_norm=CLIP_NORM)
    rates = {id(parameter): group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    assert [rates[id(layer.weight)] for layer in model] == pytest.approx([0.5 * 2.0 ** (k - 8) for k in range(9)])
    assert [rates[id(layer.bias)] for layer in model] == pytest.approx([0.5 * 2.0 ** (k - 8) for k in range(9)])


def test_all_layers_have_the_same_rate_by_default():
    assert {group["rate_factor"] for group in trained_model()[1].param_groups} == {1.0}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_changes_neither_weights_nor_optimizer(bad: float):
    model, optimizer = trained_model()
    before = bits_of(model, optimizer)
    loss = model(torch.randn(8, 3)).sum()
    loss.backward()
    model[0].weight.grad[1, 2] = bad
    assert update_weights(model, optimizer, loss=loss, rate=0.01, clip_norm=CLIP_NORM) == 1
    assert all(map(torch.equal, before, bits_of(model, optimizer)))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_changes_nothing_even_if_the_gradients_are_finite(bad: float):
    model, optimizer = trained_model()
    before = bits_of(model, optimizer)
    model(torch.randn(8, 3)).sum().backward()
    assert update_weights(model, optimizer, loss=torch.tensor(bad), rate=0.01, clip_norm=CLIP_NORM) == 1
    assert all(map(torch.equal, before, bits_of(model, optimizer)))


def test_a_skipped_step_does_not_affect_the_next_one():
    results = []
    for skip_one in (False, True):
        model, optimizer = trained_model()
        if skip_one:
            model[0].weight.grad = torch.full((4, 3), math.nan)
            update_weights(model, optimizer, loss=torch.tensor(1.0), rate=0.01, clip_norm=CLIP_NORM)
        torch.manual_seed(1)
        loss = model.eval()(torch.randn(8, 3)).square().sum()
        loss.backward()
        assert update_weights(model, optimizer, loss=loss, rate=0.01, clip_norm=CLIP_NORM) == 0
        results.append(bits_of(model, optimizer))
    assert all(map(torch.equal, *results))


def test_a_huge_gradient_is_clipped():
    """The steps of AdamW do not depend on the scale of the gradients, so this checks their running mean."""
    torch.manual_seed(0)
    model = nn.Linear(3, 4)
    optimizer = build_optimizer(model, TrainConfig(weight_decay=0.1))
    loss = model(torch.randn(8, 3)).sum() * 1e12
    loss.backward()
    assert update_weights(model, optimizer, loss=loss, rate=0.01, clip_norm=CLIP_NORM) == 0
    means = [state["exp_avg"].flatten() for state in optimizer.state.values()]
    first_beta = optimizer.defaults["betas"][0]
    assert float(torch.cat(means).norm()) / (1 - first_beta) == pytest.approx(1.0, rel=1e-3)


def test_weight_decay_applies_to_matrices_but_not_to_norms_and_biases():
    model, optimizer = trained_model()
    decay = {parameter: group["weight_decay"] for group in optimizer.param_groups for parameter in group["params"]}
    assert {name: decay[parameter] for name, parameter in model.named_parameters()} == {
        "0.weight": 0.1,
        "0.bias": 0.0,
        "1.weight": 0.0,
        "1.bias": 0.0,
        "2.weight": 0.1,
        "2.bias": 0.0,
    }


def small_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def test_parameters_and_buffers_are_averaged_by_the_same_formula_and_integers_are_copied():
    model = small_model()
    ema = copy_for_ema(model)
    before = {name: value.clone() for name, value in ema.state_dict().items()}
    model(torch.randn(8, 3)).sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += parameter.grad
    update_ema(pair_tensors(ema, model), decay=0.75)
    for name, value in model.state_dict().items():
        expected = 0.75 * before[name] + 0.25 * value if value.is_floating_point() else value
        torch.testing.assert_close(ema.state_dict()[name], expected)
    assert ema.state_dict()["1.num_batches_tracked"] == 1


def test_with_a_decay_of_zero_the_average_equals_the_model():
    model = small_model()
    ema = copy_for_ema(model)
    model(torch.randn(8, 3))
    update_ema(pair_tensors(ema, model), decay=0.0)
    assert torch.equal(ema.state_dict()["1.running_mean"], model.state_dict()["1.running_mean"])


def test_the_average_requires_no_gradients_and_is_in_evaluation_mode():
    ema = copy_for_ema(small_model())
    assert not ema.training
    assert not any(parameter.requires_grad for parameter in ema.parameters())


@given(num_samples=st.integers(1, 10**7), epochs=st.integers(1, 500), batch_size=st.integers(1, 4096))
def test_the_number_of_steps_is_the_smallest_that_shows_every_sample(num_samples: int, epochs: int, batch_size: int):
    steps = count_steps(num_samples, epochs=epochs, batch_size=batch_size)
    assert steps * batch_size >= num_samples * epochs > (steps - 1) * batch_size


@given(num_steps=st.integers(1, 3000), peak=st.floats(1e-6, 1.0))
def test_the_learning_rate_rises_once_then_falls_and_never_reaches_zero(num_steps: int, peak: float):
    rates = [learning_rate(step, num_steps=num_steps, peak=peak, warmup=WARMUP) for step in range(num_steps)]
    peak_step = rates.index(max(rates))
    assert all(0 < rate <= peak for rate in rates)
    assert rates[: peak_step + 1] == sorted(rates[: peak_step + 1])
    assert rates[peak_step:] == sorted(rates[peak_step:], reverse=True)


def test_the_learning_rate_is_highest_after_the_warmup_and_almost_zero_at_the_end():
    assert learning_rate(100, num_steps=1000, peak=3e-3, warmup=WARMUP) == pytest.approx(3e-3)
    assert learning_rate(999, num_steps=1000, peak=3e-3, warmup=WARMUP) < 1e-7


@given(step=st.integers(0, 10**6))
def test_the_decay_of_the_average_rises_with_the_step_up_to_its_maximum(step: int):
    assert ema_decay(step, largest=0.99) <= min(0.99, ema_decay(step + 1, largest=0.99))
    assert ema_decay(step, largest=0.0) == 0.0


@given(num_steps=st.integers(1, 10**6))
def test_the_default_decay_averages_over_a_tenth_of_the_run(num_steps: int):
    decay = default_ema(num_steps)
    assert 0.0 <= decay < 1.0
    assert num_steps <= 10 or 1 / (1 - decay) == pytest.approx(num_steps / 10)
