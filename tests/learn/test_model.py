import pytest
import torch
import torchvision
from torch.nn import functional as F

from tests.learn.runs import SMALL_MODEL
from wds_bone.errors import ConfigError
from wds_bone.learn.model import build_backbone, build_model, take_one_channel

ALL_MODELS = torchvision.models.list_models(module=torchvision.models)


@pytest.mark.parametrize("name", ["alexnet", "vgg11", "resnet18", "shufflenet_v2_x0_5", "squeezenet1_1", "mnasnet0_5"])
def test_a_model_maps_grey_images_and_genders_to_one_number_each(name: str):
    assert_one_number_each(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL_MODELS)
def test_every_classification_model_of_torchvision_can_be_used(name: str):
    assert_one_number_each(name)


def assert_one_number_each(name: str):
    size = 299 if name == "inception_v3" else 224
    with torch.device("cpu" if name.startswith("regnet") else "meta"):  # RegNets compute their widths with tensors
        model = build_model(name).to("meta")  # shapes without the arithmetic
    ages = model(torch.empty(2, 1, size, size, device="meta"), torch.empty(2, device="meta"))
    assert ages.shape == (2,)
    assert ages.dtype == torch.float32


def test_a_wrong_name_is_refused_with_the_names_that_are_close():
    with pytest.raises(ConfigError, match="resnet19") as refused:
        build_model("resnet19")
    assert "resnet18" in refused.value.do
    assert "convnext_tiny" in str(refused.value.expected)


def test_one_grey_channel_gives_what_three_equal_channels_would():
    torch.manual_seed(0)
    backbone = build_backbone("alexnet", num_features=5).eval()
    image = torch.rand(2, 1, 64, 64) * 10
    expected = backbone(image.expand(2, 3, 64, 64))
    take_one_channel(backbone)
    assert (expected[0] - expected[1]).abs().max() > 1e-3
    torch.testing.assert_close(backbone(image), expected, atol=1e-5, rtol=1e-4)


def test_gender_changes_the_prediction_and_is_learnt():
    torch.manual_seed(0)
    model = build_model(SMALL_MODEL).eval()
    image = torch.rand(1, 1, 32, 32).expand(2, 1, 32, 32)
    girl, boy = model(image, torch.tensor([0.0, 1.0]))
    assert girl != boy
    F.mse_loss(boy, torch.tensor(1.0)).backward()
    assert model.gender.weight.grad[0].abs().sum() == 0
    assert model.gender.weight.grad[1].abs().sum() > 0
