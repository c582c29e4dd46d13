"""Test `convert_film`: films in memory equal the same films in files."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.images.broken_inputs import FILM
from wds_bone.errors import ImageError
from wds_bone.images.in_memory import convert_film
from wds_bone.images.read import read_image

DEEP = FILM.astype(np.uint16) * 257
RAMP = np.where(np.arange(FILM.shape[1]) < 20, 255, 90).astype(np.uint8)


def picture(mode: str) -> Image.Image:
    image = Image.fromarray(DEEP if mode == "I;16" else FILM)
    if mode in ("I;16", "L"):
        return image
    image = image.convert(mode.removesuffix("A") if mode != "LA" else "L")
    if mode in ("LA", "RGBA"):
        image.putalpha(Image.fromarray(np.broadcast_to(RAMP, FILM.shape)))
    return image


def saved(image: Image.Image, path: Path, **options: Any) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "I;16"])
def test_a_pillow_image_equals_its_file(tmp_path: Path, mode: str, suffix: str) -> None:
    image = picture(mode)
    path = saved(image, tmp_path / f"film{suffix}")
    expected = read_image(path)
    assert np.array_equal(convert_film(image, where="film"), expected)
    with Image.open(path) as opened:
        assert np.array_equal(convert_film(opened, where="film"), expected)


@pytest.mark.parametrize(
    "array", [FILM, DEEP, np.stack([FILM] * 3, 2), FILM.T, DEEP.astype(">u2")], ids=lambda array: str(array.dtype)
)
def test_an_array_equals_its_png_file(tmp_path: Path, array: NDArray[Any]) -> None:
    native = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("=")))
    expected = read_image(saved(Image.fromarray(native), tmp_path / "film.png"))
    assert np.array_equal(convert_film(array, where="film"), expected)


def test_percentiles_are_stretched_as_those_of_a_file(tmp_path: Path) -> None:
    path = saved(Image.fromarray(DEEP // 9), tmp_path / "film.png")
    stretched = convert_film(DEEP // 9, stretch=(1, 99), where="film")
    assert np.array_equal(stretched, read_image(path, stretch=(1, 99)))


def test_the_orientation_of_an_opened_file_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(Image.fromarray(FILM), tmp_path / "film.png", exif=exif)
    with Image.open(path) as opened:
        converted = convert_film(opened, where="film")
    assert converted.shape == FILM.T.shape
    assert np.array_equal(converted, read_image(path))


@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}])
def test_an_opened_tiff_that_states_its_orientation_and_resolution_equals_its_file(
    tmp_path: Path, options: dict[str, str]
) -> None:
    path = saved(Image.fromarray(FILM), tmp_path / "film.tif", tiffinfo={0x0112: 6}, dpi=(300, 300), **options)
    with Image.open(path) as opened:
        converted = convert_film(opened, where="film")
        assert opened.filename == str(path)
    assert converted.shape == FILM.T.shape
    assert np.array_equal(converted, read_image(path))


def test_an_array_is_not_changed_and_its_picture_can_be_changed() -> None:
    before = FILM.copy()
    FILM.flags.writeable = False
    convert_film(FILM, where="film")[:] = 0
    FILM.flags.writeable = True
    assert np.array_equal(FILM, before)


def truncated() -> Image.Image:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)).save(file, "PNG")
    return Image.open(io.BytesIO(file.getvalue()[:2000]))


def animated() -> Image.Image:
    file = io.BytesIO()
    frames = [Image.fromarray(np.roll(FILM, shift)) for shift in (0, 9)]
    frames[0].save(file, "TIFF", save_all=True, append_images=frames[1:])
    return Image.open(file)


def not_square(file_format: str) -> Image.Image:
    file = io.BytesIO()
    Image.fromarray(FILM).save(file, file_format, dpi=(100, 200))
    return Image.open(file)


@pytest.mark.fault("A8")
@pytest.mark.parametrize(
    ("film", "message"),
    [
        (FILM.astype(np.float32), "got:      float32"),
        (FILM.astype(np.int64), "got:      int64"),
        (FILM[None], r"got:      uint8 \(1, "),
        (FILM[0], "the array is not a film"),
        (np.zeros((0, 5), np.uint8), "the image is empty"),
        (np.zeros((40, 40), np.uint8), "almost uniformly gray"),
        (DEEP // 16, "uses too little of its range"),
        (Image.fromarray(FILM).convert("CMYK"), "mode CMYK"),
        (Image.fromarray(FILM).convert("F"), "mode F"),
        (truncated(), "the image is damaged"),
        (animated(), "2 frames"),
        (not_square("PNG"), "not square"),
        (not_square("TIFF"), "not square"),
        (None, "not a film"),
        ([[1, 2]], "got:      list"),
    ],
)
def test_other_films_are_refused_by_name(film: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message) as raised:
        convert_film(film, where="films[3]")
    assert str(raised.value).startswith("films[3]: ")
