import sys

import pytest
import torch

from wds_bone.errors import ConfigError
from wds_bone.model.model import NUM_FEATURES, build_model
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
