import pytest
import torch
from torch import nn
from torchvision.ops import StochasticDepth

from wds_bone.errors import ConfigError
from wds_bone.learn.optimizer import build_optimizer
from wds_bone.learn.settings import TrainConfig
from wds_bone.model.layers import freeze_backbone, new_layers, set_drop_path, set_dropout
from wds_bone.model.model import HeadShape, build_model


def probabilities(model: nn.Module, kind: type[nn.Module]) -> list[float]:
    return [module.p for module in model.modules() if isinstance(module, kind)]


def test_the_probability_is_set_in_all_dropout_layers():
    model = build_model("efficientnet_b0")
    set_dropout(model, 0.5, name="efficientnet_b0")
    assert probabilities(model, nn.Dropout) == [0.5]
    set_dropout(model, 0.0, name="efficientnet_b0")
    assert probabilities(model, nn.Dropout) == [0.0]


def test_stochastic_depth_rises_linearly_from_0_to_the_given_probability():
    model = build_model("convnext_tiny")
    set_drop_path(model, 0.4, name="convnext_tiny")
    depths = probabilities(model, StochasticDepth)
    assert len(depths) == 18
    assert depths == pytest.approx([0.4 * number / 17 for number in range(18)])


def test_without_random_layers_training_mode_is_deterministic():
    torch.manual_seed(0)
    model = build_model("convnext_tiny").train()
    set_dropout(model, 0.0, name="convnext_tiny")
    set_drop_path(model, 0.0, name="convnext_tiny")
    image, gender = torch.rand(2, 1, 32, 32), torch.tensor([0.0, 1.0])
    assert torch.equal(model(image, gender), model(image, gender))


@pytest.mark.parametrize(("setter", "flag"), [(set_dropout, "--dropout"), (set_drop_path, "--drop-path")])
def test_a_model_without_such_layers_accepts_only_0(setter, flag: str):
    model = build_model("resnet18")
    setter(model, 0.0, name="resnet18")
    with pytest.raises(ConfigError, match=rf"{flag} 0\.2 has no effect on resnet18, which has no such layers"):
        setter(model, 0.2, name="resnet18")


@pytest.mark.parametrize("name", ["resnet18", "convnext_tiny", "squeezenet1_1", "vit_b_32", "densenet121"])
def test_only_the_last_layer_of_a_frozen_backbone_is_trained(name: str):
    with torch.device("meta"):
        model = build_model(name)
        freeze_backbone(model)
    trained = [weight for weight, tensor in model.named_parameters() if tensor.requires_grad]
    backbone = [weight for weight in trained if weight.startswith("backbone.")]
    assert len(backbone) == 2  # weight and bias
    assert {tensor.shape[0] for weight, tensor in model.named_parameters() if weight in backbone} == {256}
    assert set(trained) - set(backbone) == {"gender.weight", "head.1.weight", "head.1.bias"}
    groups = build_optimizer(model, TrainConfig(weight_decay=0.1)).param_groups
    assert sum(len(group["params"]) for group in groups) == len(trained)


@pytest.mark.parametrize("name", ["resnet18", "convnext_tiny", "squeezenet1_1", "vit_b_32", "residual-16x1111-s2"])
def test_only_layers_without_pretrained_weights_keep_the_full_rate(name: str):
    with torch.device("meta"):
        model = build_model(name, HeadShape("concat"))
        frozen = build_model(name)
        freeze_backbone(frozen)
    last = {weight for weight, tensor in frozen.backbone.named_parameters() if tensor.requires_grad}
    groups = build_optimizer(model, TrainConfig(first_layer_rate=0.1), new_layers=new_layers(model)).param_groups
    factors = {id(parameter): group["rate_factor"] for group in groups for parameter in group["params"]}
    full = {weight for weight, tensor in model.named_parameters() if factors[id(tensor)] == 1.0}
    own = {"gender.weight", "head.1.weight", "head.1.bias", "head.3.weight", "head.3.bias"}
    assert full == own | {f"backbone.{weight}" for weight in last}
    assert min(factors.values()) == pytest.approx(0.1)
    assert factors.keys() == {id(tensor) for tensor in model.parameters()}


def test_the_statistics_of_a_frozen_backbone_do_not_change():
    model = build_model("resnet18").train()
    freeze_backbone(model)
    before = model.backbone.bn1.running_mean.clone()
    model(torch.rand(2, 1, 32, 32), torch.zeros(2))
    assert torch.equal(model.backbone.bn1.running_mean, before)
