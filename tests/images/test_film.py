"""Test that pictures without information are refused, and that films with little contrast are not."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from tests.images.broken_inputs import picture_bytes
from tests.images.dicom_films import dicom_bytes
from tests.sample_sets import image_of
from wds_bone.errors import ImageError
from wds_bone.images.film import MIN_GRAY_RANGE, Film, gray_image
from wds_bone.images.read import read_image
from wds_bone.phantom import draw_hand, synthetic_hands


def hand(seed: int = 0, height: int = 160, width: int = 120) -> NDArray[np.uint8]:
    """Return a film of a bright hand on a dark ground, 20 to 250."""
    rows, columns = np.mgrid[0:height, 0:width]
    fingers = sum(np.exp(-(((columns - width * (0.2 + 0.15 * n)) / (width * 0.03)) ** 2)) for n in range(5))
    gray = 25 + 200 * fingers * (rows > height * 0.2) + np.random.default_rng(seed).normal(0, 3, rows.shape)
    return np.clip(gray, 20, 250).astype(np.uint8)


HAND = hand()
DEEP = HAND.astype(np.uint16)


def picture(values: NDArray[Any], **settings: Any) -> bytes:
    return picture_bytes(Image.fromarray(values), "PNG", **settings)


def spotted(values: NDArray[Any], size: int, brightness: int) -> NDArray[Any]:
    """Return the film with a marker of size x size pixels at the top left."""
    changed = values.copy()
    changed[:size, :size] = brightness
    return changed


def marked(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the film with a small marker of many gray levels."""
    changed = values.copy()
    changed[:6, :40] = np.linspace(10, 245, 40)
    return changed


def with_alpha(alpha: NDArray[np.uint8]) -> bytes:
    film = Image.fromarray(HAND).convert("RGBA")
    film.putalpha(Image.fromarray(alpha))
    return picture_bytes(film, "PNG")


FLAT = np.full_like(HAND, 90)
EMPTY: dict[str, bytes] = {
    "one gray": picture(FLAT),
    "black": picture(FLAT * 0),
    "white": picture(np.full_like(HAND, 255)),
    "one gray with a hot pixel": picture(spotted(FLAT, 1, 255)),
    "one gray with a small marker": picture(spotted(FLAT, 10, 200)),
    "black with a small marker of many grays": picture(marked(FLAT * 0)),
    "one gray with a white border": picture(np.pad(FLAT, 30, constant_values=255)),
    "almost one gray": picture(FLAT + np.random.default_rng(0).integers(0, 9, FLAT.shape).astype(np.uint8)),
    "a mask": picture(np.where(HAND > 99, 255, 0).astype(np.uint8)),
    "a mask of two labels": picture(np.where(HAND > 99, 2, 1).astype(np.uint8)),
    "three grays": picture(np.digitize(HAND, [60, 120]).astype(np.uint8) * 100 + 20),
    "12 of 16 bits": picture(DEEP * 16),
    "12 of 16 bits, one hot pixel": picture(spotted(DEEP * 16, 1, 65535)),
    "12 of 16 bits, a marker": picture(spotted(DEEP * 16, 40, 65535)),
    "12 of 16 bits, a gray marker": picture(spotted(DEEP * 16, 10, 60000)),
    "12 of 16 bits, a large gray marker": picture(spotted(DEEP * 16, 28, 60000)),
    "13 of 16 bits, a marker": picture(spotted(DEEP * 32, 28, 65535)),
    "14 of 16 bits, a marker": picture(spotted(DEEP * 64, 28, 65535)),
    "16 bits, white": picture(DEEP * 0 + 65535),
    "12 of 16 bits, inverted": picture(65535 - DEEP * 16),
    "12 of 16 bits, inverted, one dead pixel": picture(spotted(65535 - DEEP * 16, 1, 0)),
    "12 of 16 bits, white border": picture(np.pad(DEEP * 16, 30, constant_values=65535)),
    "10 of 16 bits": picture(spotted(DEEP * 4, 1, 65535)),
    "transparent": with_alpha(FLAT * 0),
    "transparent except for a corner": with_alpha(spotted(FLAT * 0, 10, 255)),
    "window below the data": dicom_bytes(DEEP * 16, WindowCenter=-500, WindowWidth=100),
    "window above the data": dicom_bytes(DEEP * 16, WindowCenter=30000, WindowWidth=100),
    "window much wider than the data": dicom_bytes(DEEP, WindowCenter=2048, WindowWidth=4096),
    "inverted": dicom_bytes(DEEP, WindowCenter=2048, WindowWidth=4096, PhotometricInterpretation="MONOCHROME1"),
    "12 of 16 stored bits": dicom_bytes(spotted(DEEP * 16, 20, 65535), BitsStored=16, HighBit=15),
    "all padding but a marker": dicom_bytes(spotted(DEEP * 0 + 7, 10, 999), PixelPaddingValue=7),
    "all padding": dicom_bytes(DEEP * 0 + 7, PixelPaddingValue=7),
}


@pytest.mark.parametrize("contents", EMPTY.values(), ids=EMPTY)
@pytest.mark.fault("A8")
def test_a_picture_without_information_is_refused_with_its_numbers(contents: bytes, tmp_path: Path) -> None:
    (tmp_path / "film").write_bytes(contents)
    with pytest.raises(ImageError, match=r"film: .*(almost uniformly gray|padding)[^$]*\n  got:      .*(\d|none)"):
        read_image(tmp_path / "film")


FULL: dict[str, bytes] = {
    "a film": picture(HAND),
    "a dark film": picture(HAND // 9),
    "a film on black": picture(np.pad(HAND, 100)),
    "a film with a white border": picture(np.pad(HAND, 100, constant_values=255)),
    "a film of 16 bits": picture(DEEP * 257),
    "a film of 16 bits with a white border": picture(np.pad(DEEP * 257, 100, constant_values=65535)),
    "a dark film of 16 bits and one hot pixel": picture(spotted(DEEP * 100, 1, 65535)),
    "4 bits": picture(HAND // 16 * 17),
    "a transparent background": with_alpha(np.where(HAND > 40, 255, 0).astype(np.uint8)),
    "12 bits": dicom_bytes(DEEP * 16),
    "a narrow window": dicom_bytes(DEEP * 16, WindowCenter=1000, WindowWidth=1000),
}


@pytest.mark.parametrize("contents", FULL.values(), ids=FULL)
def test_a_film_with_a_background_a_border_or_low_contrast_is_read(contents: bytes, tmp_path: Path) -> None:
    (tmp_path / "film").write_bytes(contents)
    assert read_image(tmp_path / "film").std() > 1


@pytest.mark.parametrize("size", [64, 128])
def test_synthetic_films_are_read(size: int, tmp_path: Path) -> None:
    for number, synthetic in enumerate(synthetic_hands(12, seed=3)):
        for image in (draw_hand(synthetic, size), image_of(number, size)):
            (tmp_path / "film").write_bytes(picture(image))
            np.testing.assert_array_equal(read_image(tmp_path / "film"), image)


@given(
    low=st.integers(1, 200),
    spread=st.integers(1, 54),
    border=st.floats(0, 0.9),
    inverted=st.booleans(),
    seed=st.integers(0, 9),
)
def test_the_range_of_the_gray_pixels_decides(low: int, spread: int, border: float, inverted: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    stored = random.integers(low, low + spread, (100, 100)).astype(np.uint8)
    stored[: int(border * 100)] = random.choice(np.array([0, 255], np.uint8))
    black, white = (255, 0) if inverted else (0, 255)
    film = Film(stored, black, white)
    if spread < MIN_GRAY_RANGE:
        with pytest.raises(ImageError, match="film: the film would be almost uniformly gray"):
            gray_image(film, None, where="film")
    elif spread > MIN_GRAY_RANGE + 1:  # the percentiles of random numbers leave out up to one level
        expected = 255 - stored if inverted else stored
        np.testing.assert_array_equal(gray_image(film, None, where="film"), expected)


@given(st.lists(st.integers(0, 65535), min_size=40, max_size=80, unique=True), st.floats(0, 40), st.floats(60, 100))
def test_a_stretch_uses_the_percentiles_of_numpy(numbers: list[int], low: float, high: float) -> None:
    stored = np.array([numbers], np.uint16)
    black, white = np.percentile(stored, (low, high))
    expected = np.rint(np.clip((stored.astype(np.float32) - black) * (255 / (white - black)), 0, 255))
    with contextlib.suppress(ImageError):  # few numbers can be in a narrow range
        np.testing.assert_array_equal(gray_image(Film(stored, 0, 65535), (low, high), where="film"), expected)
