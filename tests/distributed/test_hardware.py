"""Test which settings are chosen for a machine."""

import pytest
import torch
from torch import nn

from wds_bone.distributed.hardware import (
    default_threads,
    installed_versions,
    pick_device,
    pick_model,
    pick_precision,
    pick_rate,
)
from wds_bone.errors import ConfigError
from wds_bone.model.model import build_model

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_explicit_settings_are_kept():
    assert pick_device("cpu") == CPU
    assert pick_precision("fp32", CPU) == "fp32"
    assert pick_precision("bf16", CPU) == "bf16"
    assert pick_model("vit_b_16", CPU) == "vit_b_16"


def test_auto_chooses_settings_that_suit_the_device():
    assert pick_model("auto", CPU) == "residual-16x2222-s2"
    assert pick_model("auto", GPU) == "convnext_tiny"
    assert pick_precision("auto", CPU) in ("fp32", "bf16")
    assert pick_rate("resnet18") > pick_rate("convnext_tiny") == pick_rate("vit_b_16")
    assert default_threads(CPU) == 1
    assert default_threads(GPU) is None


@pytest.mark.parametrize("name", ["convnext_tiny", "swin_t", "vit_b_32", "maxvit_t", "resnet18", "efficientnet_v2_s"])
def test_models_with_layer_norms_have_a_lower_rate(name: str):
    with torch.device("meta"):
        model = build_model(name)
    has_layer_norms = any(isinstance(module, nn.LayerNorm) for module in model.modules())
    assert (pick_rate(name) < pick_rate("resnet18")) == has_layer_norms


TIMM_NAMES = [
    *("beit_base_patch16_224", "cait_xxs24_224", "coat_tiny", "crossvit_tiny_240", "davit_tiny", "densenet121"),
    *("deit_tiny_patch16_224", "edgenext_xx_small", "efficientnet_b0", "eva02_tiny_patch14_224", "gmixer_12_224"),
    *("hiera_tiny_224", "mixer_s32_224", "mvitv2_tiny", "pvt_v2_b0", "resnet10t", "swinv2_tiny_window8_256"),
    *("tiny_vit_5m_224", "twins_svt_small", "volo_d1_224", "xcit_nano_12_p16_224"),
]


@pytest.mark.parametrize("name", TIMM_NAMES)
def test_models_of_timm_with_layer_norms_have_a_lower_rate(name: str):
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        model = timm.create_model(name)
    has_layer_norms = any(isinstance(module, nn.LayerNorm) for module in model.modules())
    assert (pick_rate(f"timm:{name}") < pick_rate("timm:resnet18")) == has_layer_norms


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
@pytest.mark.fault("E2")
def test_requesting_cuda_without_a_device_is_an_error_that_suggests_the_cpu():
    assert pick_device("auto") == CPU
    with pytest.raises(ConfigError, match="no CUDA device") as refused:
        pick_device("cuda")
    assert "--device cpu" in refused.value.do


def test_the_version_of_timm_is_recorded_if_a_model_is_one_of_its_models():
    timm = pytest.importorskip("timm")
    assert set(installed_versions("resnet18")) == {"wds_bone", "torch", "torchvision", "python"}
    assert installed_versions("resnet18", "timm:resnet10t")["timm"] == timm.__version__
