import math

import pytest
import torch
from torch import nn

from wds_bone.learn.optimizer import CLIP_NORM, build_optimizer, update_weights


def trained_model() -> tuple[nn.Module, torch.optim.AdamW]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    optimizer = build_optimizer(model, weight_decay=0.1)
    loss = model(torch.randn(8, 3)).square().sum()
    loss.backward()
    assert update_weights(model, optimizer, loss=loss, rate=0.01) == 0
    return model, optimizer


def bits_of(model: nn.Module, optimizer: torch.optim.AdamW) -> list[torch.Tensor]:
    states = [value for state in optimizer.state.values() for value in state.values()]
    return [tensor.detach().clone() for tensor in [*model.parameters(), *states]]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_changes_neither_weights_nor_optimizer(bad: float):
    model, optimizer = trained_model()
    before = bits_of(model, optimizer)
    loss = model(torch.randn(8, 3)).sum()
    loss.backward()
    model[0].weight.grad[1, 2] = bad
    assert update_weights(model, optimizer, loss=loss, rate=0.01) == 1
    assert all(map(torch.equal, before, bits_of(model, optimizer)))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_changes_nothing_even_if_the_gradients_are(bad: float):
    model, optimizer = trained_model()
    before = bits_of(model, optimizer)
    model(torch.randn(8, 3)).sum().backward()
    assert update_weights(model, optimizer, loss=torch.tensor(bad), rate=0.01) == 1
    assert all(map(torch.equal, before, bits_of(model, optimizer)))


def test_a_refused_step_leaves_no_trace_in_the_next_one():
    results = []
    for refuse_one in (False, True):
        model, optimizer = trained_model()
        if refuse_one:
            model[0].weight.grad = torch.full((4, 3), math.nan)
            update_weights(model, optimizer, loss=torch.tensor(1.0), rate=0.01)
        torch.manual_seed(1)
        loss = model.eval()(torch.randn(8, 3)).square().sum()
        loss.backward()
        assert update_weights(model, optimizer, loss=loss, rate=0.01) == 0
        results.append(bits_of(model, optimizer))
    assert all(map(torch.equal, *results))


def test_a_huge_gradient_is_clipped():
    """AdamW moves the weights alike whatever the scale, so look at its mean of the gradients."""
    torch.manual_seed(0)
    model = nn.Linear(3, 4)
    optimizer = build_optimizer(model, weight_decay=0.1)
    loss = model(torch.randn(8, 3)).sum() * 1e12
    loss.backward()
    assert update_weights(model, optimizer, loss=loss, rate=0.01) == 0
    means = [state["exp_avg"].flatten() for state in optimizer.state.values()]
    first_beta = optimizer.defaults["betas"][0]
    assert float(torch.cat(means).norm()) / (1 - first_beta) == pytest.approx(CLIP_NORM, rel=1e-3)


def test_matrices_decay_and_norms_and_biases_do_not():
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
