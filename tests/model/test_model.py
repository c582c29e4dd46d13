from typing import get_args

import pytest
import torch
import torchvision
from torch.nn import functional as F

from tests.learn.runs import SMALL_MODEL
from wds_bone.errors import ConfigError
from wds_bone.model.footprint import measure_step_bytes
from wds_bone.model.model import (
    NUM_FEATURES,
    BoneAgeModel,
    Fusion,
    HeadShape,
    build_backbone,
    build_model,
    expected_age,
    sum_input_channels,
)

ALL_MODELS = torchvision.models.list_models(module=torchvision.models)


@pytest.mark.parametrize("name", ["alexnet", "vgg11", "resnet18", "shufflenet_v2_x0_5", "squeezenet1_1", "mnasnet0_5"])
def test_a_model_maps_gray_images_to_features(name: str):
    assert_features(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL_MODELS)
def test_every_classification_model_of_torchvision_can_be_used(name: str):
    assert_features(name)


def assert_features(name: str):
    size = 299 if name == "inception_v3" else 224
    with torch.device("cpu" if name.startswith("regnet") else "meta"):  # RegNets compute their widths with tensors
        model = build_model(name).to("meta")  # only shapes, no arithmetic
    features = model.backbone(torch.empty(2, 1, size, size, device="meta"))
    assert features.shape == (2, NUM_FEATURES)


def test_the_error_for_an_unknown_name_suggests_similar_names():
    with pytest.raises(ConfigError, match="resnet19") as refused:
        build_model("resnet19")
    assert "resnet18" in refused.value.do
    assert "convnext_tiny" in str(refused.value.expected)


def test_one_gray_channel_gives_the_same_result_as_three_equal_channels():
    torch.manual_seed(0)
    backbone = build_backbone("alexnet", num_features=5).eval()
    image = torch.rand(2, 1, 64, 64) * 10
    expected = backbone(image.expand(2, 3, 64, 64))
    sum_input_channels(backbone)
    assert (expected[0] - expected[1]).abs().max() > 1e-3
    torch.testing.assert_close(backbone(image), expected, atol=1e-5, rtol=1e-4)


def test_gender_changes_the_prediction_and_its_embedding_is_trained():
    torch.manual_seed(0)
    model = build_model(SMALL_MODEL).eval()
    image = torch.rand(1, 1, 32, 32).expand(2, 1, 32, 32)
    girl, boy = model(image, torch.tensor([0.0, 1.0]))
    assert girl != boy
    F.mse_loss(boy, torch.tensor(1.0)).backward()
    assert model.gender.weight.grad[0].abs().sum() == 0
    assert model.gender.weight.grad[1].abs().sum() > 0


@pytest.mark.parametrize("fusion", sorted({*get_args(Fusion)} - {"none"}))
@pytest.mark.parametrize("num_bins", [0, 31])
def test_every_head_gives_an_age_that_depends_on_image_and_gender(fusion: Fusion, num_bins: int):
    torch.manual_seed(0)
    model = build_model(SMALL_MODEL, HeadShape(fusion, num_bins))
    torch.nn.init.normal_(model.gender.weight)  # "film" begins without the gender
    model.eval()
    girl, boy = model(torch.rand(1, 1, 32, 32).expand(2, 1, 32, 32), torch.tensor([0.0, 1.0]))
    other = model(100 * torch.rand(1, 1, 32, 32), torch.tensor([1.0]))
    assert girl.shape == ()
    assert len({girl.item(), boy.item(), other.item()}) == 3


@pytest.mark.parametrize("fusion", get_args(Fusion))
@pytest.mark.parametrize("num_bins", [0, 71])
@pytest.mark.parametrize("batch_size", [7, 10, 15])
def test_the_head_gives_equal_features_equal_ages_wherever_they_are_in_a_batch(
    fusion: Fusion, num_bins: int, batch_size: int
):
    torch.manual_seed(0)
    model = BoneAgeModel(torch.nn.Flatten(), HeadShape(fusion, num_bins)).eval()
    for _ in range(20):
        features = torch.randn(1, 1, 1, NUM_FEATURES).expand(batch_size, 1, 1, NUM_FEATURES)
        ages = model(features, torch.ones(batch_size))
        assert len(ages.unique()) == 1


def test_an_evaluation_does_not_change_the_layers_which_other_threads_may_be_using():
    model = build_model(SMALL_MODEL, HeadShape("concat", 71)).eval()
    types = list[torch.dtype]()
    for layer in model.head:
        layer.register_forward_hook(lambda *_: types.extend(weight.dtype for weight in model.parameters()))
    model(torch.rand(2, 1, 32, 32), torch.tensor([0.0, 1.0]))
    assert set(types) == {torch.float32}


@pytest.mark.parametrize("fusion", ["sum", "heads"])
def test_other_bins_hardly_change_the_ages_that_a_trained_model_predicts(fusion: Fusion):
    """It is trained enough if its distributions are narrow and within the bins."""
    torch.manual_seed(0)
    model = BoneAgeModel(torch.nn.Flatten(), HeadShape(fusion, 71)).eval()
    features, gender = torch.rand(50, 1, 1, NUM_FEATURES), torch.arange(50.0) % 2
    with torch.no_grad():
        last, places = model.head[-1], torch.linspace(-3.5, 3.5, 71)
        means = 4.0 * (torch.rand(NUM_FEATURES, 1) - 0.5)
        slopes = (means * places / 0.1 / NUM_FEATURES).T
        last.weight.copy_(torch.cat([slopes, -slopes])[: len(last.weight)])  # with "heads", those of girls come first
        last.bias.copy_((-0.5 * (places / 0.3) ** 2).repeat(len(last.bias) // 71))
    before = model(features, gender)
    model.use_bins(torch.linspace(-3.8, 6.5, 71))
    assert before.std() > 0.05
    torch.testing.assert_close(model(features, gender), before, atol=0.02, rtol=0.0)
    torch.testing.assert_close(model.bins, torch.linspace(-3.8, 6.5, 71))


def test_the_same_bins_do_not_change_a_bit_of_a_model():
    model = build_model(SMALL_MODEL, HeadShape(num_bins=71))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.use_bins(torch.linspace(-3.5, 3.5, 71))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("fusion", ["none", "film"])
def test_film_begins_without_the_gender_and_none_never_uses_it(fusion: Fusion):
    model = build_model(SMALL_MODEL, HeadShape(fusion)).eval()
    girl, boy = model(torch.rand(1, 1, 32, 32).expand(2, 1, 32, 32), torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(girl, boy)


def test_a_model_of_distributions_returns_logits_in_training_and_their_expectation_afterwards():
    model = build_model(SMALL_MODEL, HeadShape(num_bins=31))
    image, gender = torch.rand(2, 1, 32, 32), torch.tensor([0.0, 1.0])
    assert model(image, gender).shape == (2, 31)
    assert model.bins is not None
    sure = torch.full((1, 31), -50.0)
    sure[0, 4] = 50.0
    torch.testing.assert_close(expected_age(sure, model.bins), model.bins[4:5])
    ages = model.eval()(image, gender)
    assert ages.shape == (2,)
    assert model.bins[0] < ages.min()
    assert ages.max() < model.bins[-1]


def test_the_shape_of_the_head_is_read_from_settings_and_has_a_default_for_old_checkpoints():
    assert HeadShape.of({"model": "resnet18"}) == HeadShape("sum", 0)
    assert HeadShape.of({"gender_fusion": "film", "age_bins": 71}) == HeadShape("film", 71)


@pytest.mark.parametrize("num_bins", [0, 71])
def test_ages_are_not_rounded_to_bfloat16(num_bins: int):
    torch.manual_seed(0)
    model = build_model("squeezenet1_1", HeadShape(num_bins=num_bins)).eval()
    image, gender = torch.rand(300, 1, 32, 32), torch.arange(300) % 2
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        ages = model(image, gender)
    assert ages.shape == (300,)
    assert ages.dtype == torch.float32
    assert len(ages.unique()) > 290


@pytest.mark.parametrize(
    ("name", "batch_size", "size"),
    [("resnet18", 1, 32), ("alexnet", 4, 32), ("shufflenet_v2_x0_5", 1, 32), ("maxvit_t", 2, 128)],
)
def test_images_that_a_model_cannot_be_trained_on_are_refused(name: str, batch_size: int, size: int):
    with pytest.raises(ConfigError, match=f"{name} cannot be trained on images of {size} x {size} pixels") as refused:
        measure_step_bytes(build_model(name), name=name, num_images=batch_size, height=size, width=size)
    assert "--image-size 224" in refused.value.do


def test_checking_an_image_size_does_not_change_the_model():
    model = build_model("resnet18")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    measure_step_bytes(model, name="resnet18", num_images=2, height=32, width=48)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["resnet18", "convnext_tiny", "efficientnet_v2_s"])
def test_a_model_is_compiled_into_one_graph_in_half_precision_too(name: str):
    """Otherwise `--compile` would gain little on a GPU; dynamo raises an error for every break of the graph."""
    model = torch.compile(build_model(name, HeadShape(num_bins=71)), fullgraph=True, backend="eager")
    for autocast in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            assert model(torch.rand(2, 1, 64, 64), torch.tensor([0.0, 1.0])).shape == (2, 71)
