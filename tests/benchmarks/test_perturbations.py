import pytest
import torch
from torch.nn import functional as F

from benchmarks.perturbations import (
    PERTURBATIONS,
    as_jpeg,
    blurred,
    equalized_locally,
    framed,
    inverted,
    noisy,
    offset,
    shifted_exactly,
    stretched,
    with_brightness,
    with_contrast,
    with_gamma,
)


def films(num: int = 2, *, height: int = 40, width: int = 48) -> torch.Tensor:
    """Return smooth films: their brightness rises from left to right, and the later ones are darker."""
    ramp = torch.linspace(20, 180, width).expand(num, 1, height, width)
    return (ramp / torch.arange(1, num + 1)[:, None, None, None]).round().to(torch.uint8)


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_a_film_changes_in_the_same_way_in_any_batch_and_keeps_its_shape(name: str):
    image, change = films(3), PERTURBATIONS[name]
    together = change(image)
    assert together.dtype == torch.uint8
    assert together.shape == image.shape
    assert not torch.equal(together, image)
    assert torch.equal(together[1:2], change(image[1:2]))


@pytest.mark.parametrize("name", sorted({*PERTURBATIONS} - {"white frame"}))
def test_the_bars_of_a_letterbox_remain_black(name: str):
    image = F.pad(films(), (16, 16, 0, 0))
    changed = PERTURBATIONS[name](image)
    assert changed[..., :16].max() == changed[..., -16:].max() == 0
    assert not torch.equal(changed, image)


def test_a_stretch_puts_the_percentiles_at_black_and_white():
    image = torch.arange(100, dtype=torch.uint8).view(1, 1, 10, 10)
    changed = stretched(image, low=5, high=95).flatten()
    assert int((changed == 0).sum()) == pytest.approx(5, abs=1)
    assert int((changed == 255).sum()) == pytest.approx(5, abs=1)
    assert int(changed[50]) == pytest.approx(128, abs=2)


def test_gamma_contrast_and_brightness_are_those_of_their_formulas():
    image = torch.tensor([[[[0, 100, 128, 200, 255]]]], dtype=torch.uint8)
    assert with_gamma(image, 2.0).flatten().tolist() == [0, 39, 64, 157, 255]
    assert with_contrast(image, 0.5).flatten().tolist() == [68, 118, 132, 168, 196]  # the mean is 136.6
    assert with_brightness(image, 1.2).flatten().tolist() == [0, 120, 154, 240, 255]
    assert offset(image, 0.2).flatten().tolist() == [51, 151, 179, 251, 255]
    assert offset(image, -0.2).flatten().tolist() == [0, 49, 77, 149, 204]
    assert inverted(image).flatten().tolist() == [255, 155, 127, 55, 0]


def test_the_frame_is_white_and_the_rest_is_unchanged():
    image = films()
    changed = framed(image)
    assert torch.equal(changed[..., 2:-2, 2:-2], image[..., 2:-2, 2:-2])
    assert (changed != image).float().mean() == pytest.approx(1 - 36 * 44 / (40 * 48))
    assert changed[..., 0, :].min() == changed[..., :, -1].min() == 255


def test_blurring_spreads_a_point_and_keeps_flat_films():
    point = torch.zeros(1, 1, 5, 5, dtype=torch.uint8)
    point[..., 2, 2] = 160
    assert blurred(point)[0, 0, 2].tolist() == [0, 20, 40, 20, 0]
    flat = torch.full((1, 1, 6, 6), 77, dtype=torch.uint8)
    assert torch.equal(blurred(flat), flat)


def test_the_noise_has_the_given_standard_deviation():
    flat = torch.full((1, 1, 100, 100), 128, dtype=torch.uint8)
    assert noisy(flat, 0.02).float().std() == pytest.approx(0.02 * 255, rel=0.03)
    assert noisy(flat, 0.02).float().mean() == pytest.approx(128, abs=0.2)


def test_jpeg_changes_a_film_less_at_higher_quality():
    film = torch.randint(0, 256, (1, 1, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    losses = [(as_jpeg(film, quality).float() - film).abs().mean() for quality in (20, 50, 95)]
    assert losses[0] > losses[1] > losses[2] > 0


def test_local_equalization_raises_weak_contrast_up_to_its_limit():
    weak = (100 + 10 * torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))).to(torch.uint8)
    changed = equalized_locally(weak).float()
    assert 2 * weak.float().std() < changed.std() < 3 * weak.float().std()


def test_an_exact_shift_keeps_the_power_and_two_halves_make_a_whole_pixel():
    image = films(1, width=64)
    shifted = shifted_exactly(shifted_exactly(image, 0.5), 0.5)
    assert (shifted[..., 8:-8, 8:-8].float() - image[..., 9:-7, 9:-7].float()).abs().max() <= 2
