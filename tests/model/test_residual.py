import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from wds_bone.errors import ConfigError
from wds_bone.model.model import NUM_FEATURES, build_model
from wds_bone.model.residual import ResidualBlock, build_residual


def num_weights(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


@pytest.mark.parametrize(
    ("name", "feature_side"),
    [("residual-8x11-s1", 50), ("residual-8x11-s2", 25), ("residual-8x11-s4", 13), ("residual-8x211-s2-se", 13)],
)
def test_the_name_gives_the_stem_and_the_stages(name: str, feature_side: int):
    backbone = build_residual(name, num_features=5).eval()
    assert backbone(torch.rand(2, 3, 100, 100)).shape == (2, 5)
    blocks = [module for module in backbone if isinstance(module, ResidualBlock)]
    assert len(blocks) == sum(map(int, name.split("x")[1].split("-")[0]))
    before_pooling = backbone[: list(backbone).index(blocks[-1]) + 1]
    assert before_pooling(torch.rand(1, 3, 100, 100)).shape[2:] == (feature_side, feature_side)


def test_squeeze_and_excitation_adds_weights():
    plain, squeezed = (build_residual(f"residual-16x11-s2{end}", num_features=5) for end in ("", "-se"))
    assert num_weights(plain) < num_weights(squeezed) < 1.1 * num_weights(plain)


@pytest.mark.parametrize("width", [1, 4])
def test_a_narrow_network_has_an_excitation_too(width: int):
    backbone = build_residual(f"residual-{width}x11-s2-se", num_features=5)
    assert all(weight.numel() for weight in backbone.parameters())
    assert backbone(torch.rand(2, 3, 32, 32)).shape == (2, 5)


def test_the_width_and_depth_of_resnet18_give_its_size():
    ours = num_weights(build_residual("residual-64x2222-s4", num_features=1000))
    assert ours == pytest.approx(num_weights(resnet18()), rel=0.01)


def test_a_block_begins_as_its_shortcut():
    block, features = ResidualBlock(8, 8, stride=1, has_squeeze=False).eval(), torch.rand(2, 8, 6, 6)
    assert torch.equal(block(features), features)


def test_it_is_a_model_for_gray_images_and_genders():
    model = build_model("residual-8x11-s2").eval()
    assert model.backbone(torch.rand(2, 1, 32, 40)).shape == (2, NUM_FEATURES)
    assert model(torch.rand(2, 1, 32, 40), torch.tensor([0.0, 1.0])).shape == (2,)


@pytest.mark.parametrize("name", ["residual-", "residual-0x2-s2", "residual-32x2222", "residual-32x2222-s3"])
def test_a_name_with_other_parts_is_refused(name: str):
    with pytest.raises(ConfigError, match="residual network") as refused:
        build_model(name)
    assert "residual-32x2222-s2" in str(refused.value.do)
