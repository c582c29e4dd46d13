import torch
from torch import nn

from wds_bone.learn.average import copy_for_average, move_average


def small_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def test_parameters_and_buffers_move_by_the_same_formula_and_integers_are_copied():
    model = small_model()
    average = copy_for_average(model)
    before = {name: value.clone() for name, value in average.state_dict().items()}
    model(torch.randn(8, 3)).sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += parameter.grad
    move_average(average, model, decay=0.75)
    for name, value in model.state_dict().items():
        expected = 0.75 * before[name] + 0.25 * value if value.is_floating_point() else value
        torch.testing.assert_close(average.state_dict()[name], expected)
    assert average.state_dict()["1.num_batches_tracked"] == 1


def test_without_decay_the_average_is_the_model():
    model = small_model()
    average = copy_for_average(model)
    model(torch.randn(8, 3))
    move_average(average, model, decay=0.0)
    assert torch.equal(average.state_dict()["1.running_mean"], model.state_dict()["1.running_mean"])


def test_the_average_takes_no_gradients_and_predicts():
    average = copy_for_average(small_model())
    assert not average.training
    assert not any(parameter.requires_grad for parameter in average.parameters())
