"""What films become does not depend on how they were exposed, windowed and framed."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.perturbations import (
    as_jpeg,
    framed,
    inverted,
    offset,
    stretched,
    with_brightness,
    with_contrast,
    with_gamma,
)
from wds_bone.images.read import letterbox
from wds_bone.model.exposure import (
    BRIGHT,
    BRIGHTEST,
    MIDDLE,
    count_grays,
    find_film,
    median_of,
    normalize_tones,
    quantile_of,
)
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
        (partial(stretched, low=1, high=99), 0.03),
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


def letterboxed(narrow: Tensor) -> Tensor:
    """Return narrow films as a shard stores them: between black bars, as JPEG."""
    return as_jpeg(torch.from_numpy(np.stack([letterbox(film, SIZE) for film in narrow[:, 0].numpy()]))[:, None], 95)


@pytest.mark.parametrize("width", [32, 56, 80])
@pytest.mark.parametrize(
    ("change", "limit"),
    [
        (inverted, 0.03),
        (partial(offset, fraction=0.07), 0.04),
        (partial(with_contrast, factor=0.5), 0.07),
        (partial(with_brightness, factor=1.2), 0.04),
        (partial(with_gamma, gamma=0.7), 0.08),
    ],
)
def test_a_film_between_black_bars_is_normalized_without_them(
    films: Tensor, width: int, change: Callable[[Tensor], Tensor], limit: float
):
    left = (SIZE - width) // 2
    narrow = films[..., left : left + width]
    stored, changed = letterboxed(narrow), letterboxed(change(narrow))
    before, after = normalize_tones(stored), normalize_tones(changed)
    assert ((after - before)[INNER].abs().mean() / before[INNER].std()).item() < limit
    assert after[..., : max(1, left - 8)].abs().max() == 0
    inside = normalize_tones(narrow)
    assert (before[..., left : left + width] - inside).abs().mean() < 0.05


def test_bars_are_found_next_to_any_film(films: Tensor):
    wide = torch.zeros(4, 1, 96, 128, dtype=torch.uint8)
    wide[..., 16:112] = films
    dark = wide // 8
    for image in (wide, dark, wide.transpose(2, 3)):
        is_film = find_film(image)
        is_film = is_film if image.shape[3] == 128 else is_film.transpose(2, 3)
        assert is_film[..., 16:112].all()
        assert is_film[..., :16].max() == is_film[..., 112:].max() == 0


def test_a_white_line_within_a_film_is_no_bar(films: Tensor):
    crossed = films.clone()
    crossed[..., 40, :] = crossed[..., 50] = 255
    assert find_film(crossed).all()


@pytest.mark.parametrize("width", [32, 56, 80])
def test_a_white_frame_between_the_bars_of_a_letterbox_is_found(films: Tensor, width: int):
    left = (SIZE - width) // 2
    narrow = films[..., left : left + width]
    is_film = find_film(letterboxed(framed(narrow)))
    assert is_film[..., 6:-6, left + 6 : left + width - 6].all()
    assert is_film[..., :2, :].max() == is_film[..., -2:, :].max() == 0
    assert is_film[..., : left + 2].max() == is_film[..., left + width - 2 :].max() == 0


def test_black_bars_are_found_below_a_white_frame(films: Tensor):
    wide = torch.zeros(4, 1, 96, 128, dtype=torch.uint8)
    wide[..., 16:112] = films
    wide[..., :4, :] = 255
    is_film = find_film(wide)
    assert is_film[..., 4:, 16:112].all()
    assert is_film[..., :16].max() == is_film[..., 112:].max() == is_film[..., :4, :].max() == 0


def test_a_white_frame_is_a_bar_and_becomes_black(films: Tensor):
    is_film = find_film(framed(films))
    assert is_film[..., 4:-4, 4:-4].all()
    assert is_film[..., :4, :].max() == is_film[..., -4:].max() == 0
    before, after = normalize_tones(films), normalize_tones(framed(films))
    assert torch.equal(after, before * is_film)


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


def test_pixels_that_no_quantile_counts_are_saturated_only_where_others_are(films: Tensor):
    """Markers are at the border, which is not counted, and are brighter than the rest."""
    image = with_marker(films // 2)
    evaluated = normalize_tones(image)
    changes = torch.tensor([[0.0, 0.0, 1.0, 1.0, 0.0], [0.0, 0.02, 1.0, 1.0, 0.0]])
    changed = normalize_tones(image[:1].expand(2, -1, -1, -1), changes)
    assert torch.equal(changed[0], evaluated[0])
    assert changed[1].max() < evaluated[0].max()


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
    everywhere = torch.ones_like(image)
    assert count_grays(image, everywhere, 0.5)[:, 200].tolist() == [600, 600]
    assert count_grays(image, everywhere, 1.0)[0, [9, 200]].tolist() == [1800, 600]
    assert count_grays(image, (image > 9).to(torch.uint8), 1.0)[0, [9, 200]].tolist() == [0, 600]


def test_the_median_of_an_even_number_of_pixels_is_the_upper_one():
    counts = torch.zeros(2, 256, dtype=torch.int32)
    counts[0, :20] = 1
    counts[1, [10, 20, 30]] = 1
    assert median_of(counts).flatten().tolist() == [10, 20]


def test_quantiles_are_gray_values_that_occur():
    counts = torch.zeros(1, 256, dtype=torch.int32)
    counts[0, [10, 20, 30]] = torch.tensor([2, 5, 3], dtype=torch.int32)
    grays = torch.arange(256.0)[None]
    assert [quantile_of(grays, counts, part).item() for part in (0.1, 0.2, 0.21, 0.7, 1.0)] == [10, 10, 20, 20, 30]
