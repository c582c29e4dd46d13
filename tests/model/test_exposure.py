"""What films become does not depend on how they were exposed, windowed and framed."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from benchmarks.perturbations import (
    framed,
    inverted,
    offset,
    stretched,
    with_brightness,
    with_contrast,
    with_gamma,
)
from wds_bone.model.exposure import BRIGHT, BRIGHTEST, MIDDLE, count_grays, normalize_tones, quantile_of
from wds_bone.phantom import draw_hand, synthetic_hands

SIZE = 96
INNER = (..., slice(12, -12), slice(12, -12))
CENTER = (..., slice(29, -29), slice(29, -29))


@pytest.fixture(scope="module")
def films() -> Tensor:
    """Synthetic hands with some room at both ends of the gray scale, uint8 (4, 1, SIZE, SIZE)."""
    hands = torch.stack([torch.from_numpy(draw_hand(hand, SIZE)) for hand in synthetic_hands(4, seed=0)])
    return (20 + 0.7 * hands.float()).round().to(torch.uint8)[:, None]


def change_of_input(films: Tensor, changed: Tensor) -> float:
    """Return the mean difference of the inputs within the frame, relative to the standard deviation of the input."""
    before, after = normalize_tones(films)[INNER], normalize_tones(changed)[INNER]
    return ((after - before).abs().mean() / before.std()).item()


def with_pixels(image: Tensor, gray: int) -> Tensor:
    """Return the films with 30 pixels of one gray value."""
    changed = image.clone()
    places = torch.randperm(SIZE * SIZE, generator=torch.Generator().manual_seed(0))[:30]
    changed.flatten(2)[..., places] = gray
    return changed


def with_marker(image: Tensor) -> Tensor:
    """Return the films with a white marker in a corner."""
    changed = image.clone()
    changed[..., 4:16, 4:20] = 255
    return changed


@pytest.mark.parametrize(
    ("change", "limit"),
    [
        (partial(stretched, low=1, high=99), 0.02),
        (partial(stretched, low=5, high=95), 0.04),
        (partial(with_gamma, gamma=0.7), 0.08),
        (partial(with_gamma, gamma=1.4), 0.08),
        (partial(with_contrast, factor=0.5), 0.03),
        (partial(with_brightness, factor=1.2), 0.03),
        (partial(with_brightness, factor=0.8), 0.03),
        (partial(offset, fraction=0.07), 0.03),
        (partial(offset, fraction=-0.07), 0.03),
        (partial(with_pixels, gray=0), 0.05),
        (partial(with_pixels, gray=255), 0.05),
        (inverted, 0.01),
        (framed, 1e-6),
        (with_marker, 0.03),
    ],
)
def test_a_different_exposure_hardly_changes_the_input(films: Tensor, change: Callable[[Tensor], Tensor], limit: float):
    assert change_of_input(films, change(films)) < limit


def test_different_hands_remain_different(films: Tensor):
    assert change_of_input(films, films.roll(1, 0)) > 0.3


def test_the_center_of_each_film_has_the_given_tones(films: Tensor):
    center = normalize_tones(films)[CENTER].flatten(1)
    assert center.median(1).values == pytest.approx(torch.full((4,), MIDDLE), abs=0.02)
    assert center.quantile(0.85, dim=1) == pytest.approx(torch.full((4,), BRIGHT), abs=0.02)


def test_no_tone_is_negative_or_exceeds_the_limit(films: Tensor):
    tones = normalize_tones(with_pixels(with_pixels(films, 255), 0))
    assert tones.min() >= 0
    assert tones.max() <= BRIGHTEST


def test_a_film_is_normalized_in_the_same_way_in_any_batch(films: Tensor):
    assert torch.equal(normalize_tones(films)[2:3], normalize_tones(films[2:3]))


@pytest.mark.parametrize("gray", [0, 77, 255])
def test_a_film_of_a_single_gray_value_becomes_black(gray: int):
    assert normalize_tones(torch.full((1, 1, 40, 60), gray, dtype=torch.uint8)).abs().max() == 0


def test_changes_of_the_normalized_tones_are_a_power_a_factor_and_a_summand(films: Tensor):
    changes = torch.tensor([[0.0, 0.0, 1.3, 0.9, 0.05]]).expand(4, 5)
    expected = normalize_tones(films).pow(1.3) * 0.9 + 0.05
    torch.testing.assert_close(normalize_tones(films, changes), expected)
    torch.testing.assert_close(normalize_tones(inverted(films), changes), expected, atol=0.02, rtol=0)


def test_saturation_is_that_of_a_stretch(films: Tensor):
    changes = torch.tensor([[0.05, 0.05, 1.0, 1.0, 0.0]]).expand(4, 5)
    saturated = normalize_tones(films, changes)
    darkest, brightest = saturated.amin((1, 2, 3), keepdim=True), saturated.amax((1, 2, 3), keepdim=True)
    assert ((saturated == darkest)[INNER].float().mean((1, 2, 3)) >= 0.05).all()
    assert ((saturated == brightest)[INNER].float().mean((1, 2, 3)) >= 0.05).all()
    middle = (saturated > darkest) & (saturated < brightest)
    assert (saturated - normalize_tones(films))[middle].abs().mean() < 0.05


def test_grays_are_counted_in_the_middle_only():
    image = torch.full((2, 1, 40, 60), 9, dtype=torch.uint8)
    image[..., 10:30, 15:45] = 200
    counts = count_grays(image, 0.5)
    assert counts[:, 200].tolist() == [1.0, 1.0]
    assert count_grays(image, 1.0)[0, [9, 200]].tolist() == [0.75, 0.25]


def test_quantiles_are_gray_values_that_occur():
    counts = torch.zeros(1, 256)
    counts[0, [10, 20, 30]] = torch.tensor([0.2, 0.5, 0.3])
    grays = torch.arange(256.0)[None]
    assert [quantile_of(grays, counts, part).item() for part in (0.1, 0.2, 0.21, 0.7, 1.0)] == [10, 10, 20, 20, 30]
