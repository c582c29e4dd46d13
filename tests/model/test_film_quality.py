from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.perturbations import as_jpeg, framed
from wds_bone.model.exposure import find_film
from wds_bone.model.film_quality import add_noise, compress, cover_border


def films(num: int = 3, *, height: int = 36, width: int = 44) -> Tensor:
    """Return smooth films with some detail, uint8, with gray values around 50 to 200."""
    ramp = torch.linspace(50, 200, width).expand(num, 1, height, width)
    noise = 12 * torch.randn(num, 1, height, width, generator=torch.Generator().manual_seed(0))
    return (ramp + noise).round().clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize(
    ("change", "strength"),
    [
        (partial(add_noise, place=torch.tensor([0.1, 0.5, 0.9])), 0.1),
        (compress, 50.0),
        (lambda film, strength: cover_border(film, torch.ones_like(film), strength), 0.1),
    ],
    ids=["add_noise", "compress", "cover_border"],
)
def test_a_strength_of_0_changes_nothing_and_others_change_their_film_only(
    change: Callable[[Tensor, Tensor], Tensor], strength: float
):
    film = films()
    assert torch.equal(change(film, torch.zeros(3)), film)
    second = change(film, torch.tensor([0.0, strength, 0.0]))
    assert second.dtype == torch.uint8
    assert torch.equal(second[[0, 2]], film[[0, 2]])
    assert not torch.equal(second[1], film[1])


def test_noise_has_its_standard_deviation_and_differs_between_places():
    flat = torch.full((2, 1, 64, 64), 128, dtype=torch.uint8)
    noise = (add_noise(flat, torch.tensor([0.1, 0.1]), torch.tensor([0.2, 0.999999])).float() - 128) / 255
    assert noise.std((1, 2, 3)).tolist() == pytest.approx([0.1, 0.1], rel=0.05)
    assert torch.corrcoef(noise.flatten(1))[0, 1].abs() < 0.1


@pytest.mark.parametrize("quality", [30, 50, 90])
def test_compression_is_that_of_a_jpeg_file(quality: int):
    film = films(1, height=40, width=48)
    ours, theirs = compress(film, torch.tensor([100.0 - quality])).float(), as_jpeg(film, quality).float()
    assert (ours - theirs).abs().mean() < 0.7
    assert (ours - film).abs().mean() > 1.0


def test_compression_rounds_a_film_in_the_same_way_in_any_batch():
    film, loss = films(40, height=100, width=100), torch.linspace(1.0, 90.0, 40)
    together = compress(film, loss)
    for part in (slice(0, 1), slice(3, 20), slice(39, 40)):
        assert torch.equal(compress(film[part], loss[part]), together[part])


def test_coefficients_half_way_between_two_steps_are_rounded_to_even_ones():
    """The mean of a block is kept in steps of two gray values at quality 50."""
    grays = torch.arange(256)
    film = grays.to(torch.uint8)[:, None, None, None].expand(256, 1, 8, 8)
    expected = (128 + 2 * ((grays - 128) / 2).round()).clamp(0, 255)
    assert torch.equal(compress(film, torch.full((256,), 50.0))[:, 0, 3, 3].float(), expected)


@pytest.mark.parametrize("bar", [0, 10])
def test_a_border_becomes_what_a_white_frame_of_its_width_becomes(bar: int):
    film = films(height=100, width=100).clamp(20, 200)
    stored, stored_framed = (F.pad(image, (bar, bar)) for image in (film, framed(film)))
    covered = cover_border(stored, find_film(stored), torch.full((3,), 0.04))
    assert torch.equal(covered, stored * find_film(stored_framed))
