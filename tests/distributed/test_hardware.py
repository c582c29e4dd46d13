"""Test which settings are chosen for a machine."""

import pytest
import torch

from wds_bone.distributed.hardware import (
    default_threads,
    installed_versions,
    pick_device,
    pick_model,
    pick_precision,
    pick_rate,
)
from wds_bone.errors import ConfigError

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_explicit_settings_are_kept():
    assert pick_device("cpu") == CPU
    assert pick_precision("fp32", CPU) == "fp32"
    assert pick_precision("bf16", CPU) == "bf16"
    assert pick_model("vit_b_16", CPU) == "vit_b_16"


def test_auto_chooses_settings_that_suit_the_device():
    assert pick_model("auto", CPU) == "resnet18"
    assert pick_model("auto", GPU) == "convnext_tiny"
    assert pick_precision("auto", CPU) in ("fp32", "bf16")
    assert pick_rate("resnet18") > pick_rate("convnext_tiny") == pick_rate("vit_b_16")
    assert default_threads(CPU) == 1
    assert default_threads(GPU) is None


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
