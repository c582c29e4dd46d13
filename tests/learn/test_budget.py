"""Test what is refused before the first step because a model cannot be trained on such images."""

import pytest
import torch

from wds_bone.errors import ConfigError
from wds_bone.learn.budget import refuse_large_steps
from wds_bone.learn.settings import TrainConfig, make_recipe
from wds_bone.model.model import build_model
from wds_bone.model.preprocess import plan_preprocessing
from wds_bone.shards.manifest import ImageFormat

CPU = torch.device("cpu")


def check(model: str, first_size: float, *, side: int, batch_size: int = 4) -> None:
    """Check a run with images that grow to `side` pixels."""
    config = TrainConfig(model=model, lr=1e-3, batch_size=batch_size, precision="fp32", first_size=first_size)
    recipe = make_recipe(config, num_samples=100, world_size=1)
    with torch.device("meta"):
        built = build_model(model)
    refuse_large_steps(built, recipe, plan_preprocessing(ImageFormat("png", side, side), None), device=CPU)


@pytest.mark.parametrize(
    ("model", "side", "batch_size", "refused_side"),
    [("vit_b_32", 224, 4, 112), ("resnet18", 64, 1, 32), ("alexnet", 96, 4, 48)],
)
def test_a_model_that_cannot_be_trained_on_the_first_images_of_a_run_is_refused(
    model: str, side: int, batch_size: int, refused_side: int
):
    check(model, 1.0, side=side, batch_size=batch_size)
    match = f"{model} cannot be trained on images of {refused_side} x {refused_side} pixels"
    with pytest.raises(ConfigError, match=match) as refused:
        check(model, 0.5, side=side, batch_size=batch_size)
    assert "--set first_size=1" in refused.value.do


def test_a_model_that_cannot_be_trained_on_images_between_the_first_and_the_last_is_refused():
    """The branches of this one fit together only if the sides are multiples of 32 pixels."""
    pytest.importorskip("timm")
    check("timm:hrnet_w18_small", 1.0, side=64)
    with pytest.raises(ConfigError, match="images of 68 x 68 pixels"):
        check("timm:hrnet_w18_small", 0.5, side=128)


def test_a_model_for_images_of_any_size_may_be_trained_on_growing_ones():
    check("resnet18", 0.25, side=128)
