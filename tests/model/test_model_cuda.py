"""Test that a CUDA device computes what the CPU computes, up to rounding."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import wds_bone
from tests.cuda import DEVICE, ON_CUDA
from tests.sample_sets import image_of
from wds_bone.model.augment import Ranges, augment, uniform_draws
from wds_bone.model.model import build_model
from wds_bone.model.preprocess import plan_preprocessing
from wds_bone.shards.manifest import ImageFormat

pytestmark = ON_CUDA
RANGES = Ranges(
    flip=True,
    turn_degrees=8.0,
    scale=0.06,
    shift=0.04,
    contrast=0.15,
    brightness=0.05,
    gamma=0.25,
    saturation=0.05,
    sharpness=0.7,
    clahe=3.0,
    noise=0.03,
    frame=0.1,
    erase=0.3,
)
CPU = torch.device("cpu")
TF32_MONTHS = 0.3
"""cuDNN multiplies float32 with 10 bits of mantissa by default."""


def test_the_random_numbers_of_the_augmentation_are_the_same_bits() -> None:
    position = torch.arange(10_000) * 977
    draws = uniform_draws(1 << 40, position, num_draws=8)
    assert torch.equal(uniform_draws(1 << 40, position.to(DEVICE), num_draws=8).cpu(), draws)


def augmented(device: torch.device, ranges: Ranges, *, image_size: int | None = None) -> Tensor:
    stored = torch.from_numpy(np.stack([image_of(number, 64) for number in range(8)]))[:, None].to(device)
    position, preprocessing = torch.arange(8, device=device), plan_preprocessing(ImageFormat("png", 64, 64), image_size)
    return augment(stored, position, preprocessing=preprocessing, seed=3, ranges=ranges).cpu()


@pytest.mark.parametrize(
    ("ranges", "image_size", "max_fraction"),
    [(replace(RANGES, clahe=0.0, noise=0.0), None, 0.0), (RANGES, None, 0.01), (RANGES, 48, 0.01)],
    ids=["without rounding", "stored size", "resized"],
)
def test_augmented_images_are_the_same_up_to_rounding(
    ranges: Ranges, image_size: int | None, max_fraction: float
) -> None:
    """Noise and CLAHE round films to gray values, so that a last bit may decide between two of them."""
    on_cuda, on_cpu = (augmented(device, ranges, image_size=image_size) for device in (DEVICE, CPU))
    differs = (on_cuda - on_cpu).abs() > 5e-3
    assert differs.float().mean() <= max_fraction


def test_compressed_images_are_the_same_except_where_a_coefficient_is_rounded_to_the_other_side() -> None:
    on_cuda, on_cpu = (augmented(device, replace(RANGES, jpeg=50.0)) for device in (DEVICE, CPU))
    assert (on_cuda - on_cpu).abs().mean() < 2e-3


def test_a_checkpoint_predicts_the_same_ages(finished: Path) -> None:
    films, genders = [image_of(number, 32) for number in range(6)], ["F", "M"] * 3
    months = [
        wds_bone.load_model(finished / "best.pt", device=name).predict(films, genders) for name in ("cpu", "cuda")
    ]
    np.testing.assert_allclose(months[1], months[0], atol=TF32_MONTHS)


def test_in_bfloat16_the_head_still_computes_in_float32() -> None:
    torch.manual_seed(0)
    model, image = build_model("shufflenet_v2_x0_5").to(DEVICE), torch.rand(16, 1, 32, 32, device=DEVICE)
    with torch.autocast(DEVICE.type, torch.bfloat16):
        ages = model(image, torch.zeros(16, device=DEVICE))
    assert ages.dtype == torch.float32
    assert not torch.equal(ages, ages.bfloat16().float())
