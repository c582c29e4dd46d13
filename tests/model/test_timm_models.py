import sys

import pytest
import torch
from torch import nn
from torchvision.ops import StochasticDepth

from wds_bone.distributed.ddp import refuse_special_norms
from wds_bone.errors import ConfigError
from wds_bone.model.layers import set_drop_path
from wds_bone.model.model import GRAY_MEAN, GRAY_SD, NUM_FEATURES, BoneAgeModel, build_model
from wds_bone.model.weights import load_initial_weights

NAME = "timm:resnet10t"


def test_without_timm_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match="needs the package timm") as refused:
        build_model(NAME)
    assert "pip install 'wds-bone[timm]'" in refused.value.do


def test_a_model_of_timm_maps_gray_images_to_features():
    pytest.importorskip("timm")
    model = build_model(NAME).eval()
    assert model.backbone(torch.rand(2, 1, 64, 64)).shape == (2, NUM_FEATURES)
    assert model(torch.rand(2, 1, 64, 64), torch.tensor([0.0, 1.0])).shape == (2,)


def test_an_unknown_name_is_refused_with_similar_names():
    pytest.importorskip("timm")
    with pytest.raises(ConfigError, match="resnet10q") as refused:
        build_model("timm:resnet10q")
    assert "resnet" in str(refused.value.expected)


def test_weights_of_a_color_model_of_timm_are_loaded_from_a_file(tmp_path):
    timm = pytest.importorskip("timm")
    color = timm.create_model("resnet10t", num_classes=7)
    torch.save(color.state_dict(), tmp_path / "weights.pt")
    model = build_model(NAME)
    load_initial_weights(model, str(tmp_path / "weights.pt"), name=NAME)
    first = next(iter(color.state_dict().values()))
    torch.testing.assert_close(next(iter(model.backbone.state_dict().values())), first.sum(1, keepdim=True))


def test_pretrained_weights_that_cannot_be_fetched_are_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path):
    pytest.importorskip("timm")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match="not available"):
        load_initial_weights(build_model(NAME), "imagenet", name=NAME)


def drop_paths(model: BoneAgeModel) -> list[float]:
    return [module.p for module in model.modules() if isinstance(module, StochasticDepth)]


@pytest.mark.parametrize(("name", "count"), [(NAME, 4), ("timm:vit_tiny_patch16_224", 24), ("timm:convnext_atto", 12)])
def test_the_stochastic_depth_of_a_model_of_timm_rises_to_the_given_probability(name: str, count: int):
    pytest.importorskip("timm")
    model = build_model(name)
    assert drop_paths(model) == [0.0] * count
    set_drop_path(model, 0.4, name=name)
    assert drop_paths(model) == pytest.approx([0.4 * number / (count - 1) for number in range(count)])


def test_a_model_of_timm_keeps_its_own_stochastic_depth_unless_another_is_given():
    pytest.importorskip("timm")
    depths = drop_paths(build_model("timm:swin_tiny_patch4_window7_224"))
    assert (depths[0], depths[-1]) == (0.0, pytest.approx(0.1))


def test_the_stochastic_depth_of_a_model_of_timm_drops_blocks_in_training():
    pytest.importorskip("timm")
    torch.manual_seed(0)
    model, images, genders = build_model(NAME).train(), torch.rand(8, 1, 64, 64), torch.zeros(8)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)  # blocks begin with a 0, and dropping them would have no effect
    assert torch.equal(model(images, genders), model(images, genders))
    set_drop_path(model, 0.9, name=NAME)
    assert not torch.equal(model(images, genders), model(images, genders))


@pytest.mark.parametrize("name", [NAME, "timm:vit_tiny_patch16_224"])
def test_a_model_of_timm_sees_the_gray_values_that_its_pretrained_weights_expect(name: str):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    color = timm.create_model(name.removeprefix("timm:"), num_classes=NUM_FEATURES).eval()
    torch.manual_seed(0)
    model = build_model(name).eval()
    expected = timm.data.resolve_model_data_config(color)
    mean, sd = (sum(expected[key]) / 3 for key in ("mean", "std"))
    image = torch.rand(2, 1, 224, 224)
    with torch.inference_mode():
        features = color(((image - mean) / sd).expand(-1, 3, -1, -1))
        torch.testing.assert_close(model.backbone((image - GRAY_MEAN) / GRAY_SD), features, atol=1e-4, rtol=1e-4)


def test_the_activations_in_batch_norms_of_timm_are_not_removed_by_synchronized_ones():
    pytest.importorskip("timm")
    with pytest.raises(ConfigError, match="layers that do more than normalize: BatchNormAct2d"):
        refuse_special_norms(build_model("timm:efficientnet_lite0"))
    refuse_special_norms(build_model("resnet18"))
    refuse_special_norms(build_model("timm:resnet18"))
