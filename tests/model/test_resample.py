import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from wds_bone.model.resample import EVEN_PHASE, resample

SIZE = 24
NUM_PHASES = 16


def waves(across: float, down: float) -> torch.Tensor:
    """Return a sine and a cosine wave; the sum of the squares of both is the same at every pixel."""
    rows, columns = torch.meshgrid(torch.arange(float(SIZE)), torch.arange(float(SIZE)), indexing="ij")
    angle = across * columns + down * rows
    return torch.stack([angle.sin(), angle.cos()])[:, None]


def shifts() -> torch.Tensor:
    """Return maps that shift by all multiples of 1 / NUM_PHASES of a pixel, in both directions."""
    fractions = (torch.arange(NUM_PHASES) + 0.5) / NUM_PHASES * 2 / SIZE
    moves = torch.eye(2, 3).repeat(NUM_PHASES**2, 1, 1)
    moves[:, :, 2] = torch.cartesian_prod(fractions, fractions)
    return moves


def test_images_are_sampled_where_their_affine_maps_say():
    torch.manual_seed(0)
    maps, images = torch.randn(5, 2, 3), torch.rand(5, 1, 7, 12)
    grid = F.affine_grid(maps, [5, 1, 7, 12], align_corners=False)
    expected = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    torch.testing.assert_close(resample(images, maps, phase_pixels=0.0), expected, atol=1e-4, rtol=0.0)


def power(images: torch.Tensor) -> float:
    """Return the mean square away from the border."""
    return images[..., 4:-4, 4:-4].square().mean().item()


@given(across=st.floats(-math.pi, math.pi), down=st.floats(-math.pi, math.pi))
@settings(max_examples=50, deadline=None)
def test_an_image_in_place_has_the_mean_power_of_moved_images_at_every_frequency(across: float, down: float):
    image, moves = waves(across, down), shifts()
    moved = [resample(wave.expand(len(moves), 1, SIZE, SIZE), moves, phase_pixels=EVEN_PHASE) for wave in image]
    in_place = resample(image, None, phase_pixels=EVEN_PHASE)
    assert power(in_place) == pytest.approx(power(torch.stack(moved)), rel=0.02)


def test_without_the_phase_an_image_in_place_would_be_sharper_than_moved_images():
    """This is how evaluation differed from training up to version 0.2.0."""
    image, moves = waves(0.5 * math.pi, 0.5 * math.pi), shifts()
    moved = resample(image[:1].expand(len(moves), 1, SIZE, SIZE), moves, phase_pixels=0.0)
    assert power(moved) < 0.5 * power(resample(image, None, phase_pixels=0.0))


@given(num=st.integers(1, 5), phase=st.sampled_from([0.0, EVEN_PHASE]))
@settings(max_examples=10, deadline=None)
def test_staying_in_place_is_the_identity_map(num: int, phase: float):
    image = torch.rand(num, 1, 20, 33, generator=torch.Generator().manual_seed(num))
    identity = torch.eye(2, 3).expand(num, 2, 3)
    in_place = resample(image, None, phase_pixels=phase)
    torch.testing.assert_close(in_place, resample(image, identity, phase_pixels=phase), atol=1e-5, rtol=0)


def test_an_image_in_place_is_the_mean_of_four_neighbors_weighted_by_the_phase():
    image = torch.rand(2, 1, 9, 12, generator=torch.Generator().manual_seed(0))
    expected = image
    for dim in (2, 3):
        following = torch.cat([expected.narrow(dim, 1, expected.shape[dim] - 1), expected.narrow(dim, -1, 1)], dim)
        expected = (1 - EVEN_PHASE) * expected + EVEN_PHASE * following
    torch.testing.assert_close(resample(image, None, phase_pixels=EVEN_PHASE), expected, atol=1e-5, rtol=0)


def test_phase_0_returns_an_image_in_place_bit_for_bit():
    image = torch.rand(2, 1, 9, 12, generator=torch.Generator().manual_seed(0))
    assert torch.equal(resample(image, None, phase_pixels=0.0), image)
