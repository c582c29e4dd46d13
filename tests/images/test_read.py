"""Test `read_image` and `letterbox`: every format gives the same upright gray image."""

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from tests.images.broken_inputs import FILM, film_bytes, picture_bytes, png_chunk
from wds_bone.errors import ConfigError, ImageError
from wds_bone.images.film import Film
from wds_bone.images.raster import decode_png, decode_tiff
from wds_bone.images.read import letterbox, read_image

DEEP_FILM = FILM.astype(np.uint16) * 257
OPAQUE_LEFT = np.broadcast_to(np.where(np.arange(40) < 20, 255, 0).astype(np.uint8), FILM.shape)


def read_bytes(contents: bytes, folder: Path, suffix: str = "", **settings: Any) -> NDArray[np.uint8]:
    path = folder / f"film{suffix}"
    path.write_bytes(contents)
    return read_image(path, **settings)


def with_alpha(mode: str) -> Image.Image:
    film = Image.fromarray(FILM).convert(mode)
    film.putalpha(Image.fromarray(OPAQUE_LEFT))
    return film


def with_palette() -> Image.Image:
    """Return the film as a palette image whose indices fall as the brightness rises."""
    film = Image.fromarray(255 - FILM, "P")
    film.putpalette([255 - index for index in range(256) for _ in range(3)])
    return film


@pytest.mark.parametrize(
    ("suffix", "contents"),
    [
        (".png", lambda: film_bytes("PNG")),
        (".png", lambda: film_bytes("PNG", "RGB")),
        (".png", lambda: picture_bytes(with_palette(), "PNG")),
        (".png", lambda: picture_bytes(Image.fromarray(DEEP_FILM), "PNG")),
        (".tif", lambda: film_bytes("TIFF")),
        (".tiff", lambda: film_bytes("TIFF", "RGB")),
        (".tif", lambda: film_bytes("TIFF", compression="tiff_deflate")),
        (".tif", lambda: film_bytes("TIFF", compression="tiff_lzw")),
        (".TIF", lambda: picture_bytes(Image.fromarray(DEEP_FILM), "TIFF")),
        (".tif", lambda: picture_bytes(Image.fromarray(DEEP_FILM), "TIFF", compression="tiff_lzw")),
        ("", lambda: film_bytes("PNG")),
        (".unknown", lambda: film_bytes("TIFF")),
    ],
)
def test_every_lossless_file_gives_the_same_film(suffix: str, contents: Callable[[], bytes], tmp_path: Path) -> None:
    image = read_bytes(contents(), tmp_path, suffix)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert image.flags.writeable
    np.testing.assert_array_equal(image, FILM)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("settings", [{}, {"progressive": True}, {"keep_rgb": True}])
def test_every_jpeg_gives_nearly_the_same_film(mode: str, settings: dict[str, Any], tmp_path: Path) -> None:
    image = read_bytes(film_bytes("JPEG", mode, quality=98, **settings), tmp_path, ".jpeg").astype(int)
    assert np.abs(image - FILM).max() <= 4


def test_colors_are_converted_to_luma(tmp_path: Path) -> None:
    colors = Image.fromarray(FILM).convert("RGB")
    colors.putpixel((0, 0), (255, 0, 0))
    colors.putpixel((1, 0), (0, 255, 0))
    assert read_bytes(picture_bytes(colors, "PNG"), tmp_path, ".png")[0, :3].tolist() == [76, 150, FILM[0, 2]]


@pytest.mark.parametrize(("kind", "decode"), [("PNG", decode_png), ("TIFF", decode_tiff)])
def test_a_one_bit_film_is_black_and_white(kind: str, decode: Callable[..., Film]) -> None:
    film = decode(picture_bytes(Image.fromarray(FILM > 99), kind), where="film")
    np.testing.assert_array_equal(film.stored, np.where(FILM > 99, 255, 0))


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.fault("A8")
def test_transparent_pixels_become_black(mode: str, tmp_path: Path) -> None:
    image = read_bytes(picture_bytes(with_alpha(mode), "PNG"), tmp_path, ".png")
    np.testing.assert_array_equal(image, np.where(OPAQUE_LEFT > 0, FILM, 0))


def test_a_transparent_color_becomes_black(tmp_path: Path) -> None:
    image = read_bytes(film_bytes("PNG", transparency=int(FILM[0, 7])), tmp_path, ".png")
    np.testing.assert_array_equal(image, np.where(FILM[0, 7] == FILM, 0, FILM))


def test_a_transparent_palette_entry_becomes_black(tmp_path: Path) -> None:
    image = read_bytes(picture_bytes(with_palette(), "PNG", transparency=255 - int(FILM[0, 7])), tmp_path, ".png")
    np.testing.assert_array_equal(image, np.where(FILM[0, 7] == FILM, 0, FILM))


@pytest.mark.parametrize("values", [FILM, DEEP_FILM])
def test_a_white_is_zero_tiff_is_inverted(values: NDArray[Any], tmp_path: Path) -> None:
    contents = picture_bytes(Image.fromarray(values), "TIFF", tiffinfo={262: 0})
    np.testing.assert_array_equal(read_bytes(contents, tmp_path, ".tif"), _white_is_zero(contents))


def _white_is_zero(contents: bytes) -> NDArray[np.uint8]:
    """Return the gray that the raw strip of a TIFF means: the maximum minus the stored value."""
    picture = Image.open(io.BytesIO(contents))
    assert picture.tag_v2[262] == 0
    (offset,), (size,) = picture.tag_v2[273], picture.tag_v2[279]
    stored = np.frombuffer(contents[offset : offset + size], np.uint8 if picture.tag_v2[258] == (8,) else "<u2")
    limit = np.iinfo(stored.dtype).max
    return ((limit - stored) // (limit // 255)).astype(np.uint8).reshape(FILM.shape)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("kind", "suffix"), [("JPEG", ".jpg"), ("PNG", ".png"), ("TIFF", ".tif")])
@pytest.mark.fault("A8")
def test_the_exif_orientation_is_applied(kind: str, suffix: str, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    contents = film_bytes(kind, exif=exif.tobytes() if kind != "TIFF" else exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(contents))))
    assert (upright.shape != FILM.shape) == (orientation > 4)
    np.testing.assert_array_equal(read_bytes(contents, tmp_path, suffix), upright)


def _with_jfif_density(unit: int, across: int, down: int) -> bytes:
    contents = film_bytes("JPEG")
    start = contents.index(b"JFIF\0") + 7
    return contents[:start] + struct.pack(">BHH", unit, across, down) + contents[start + 5 :]


def _with_physical_size(across: int, down: int, unit: int) -> bytes:
    contents = film_bytes("PNG")
    return contents[:33] + png_chunk(b"pHYs", struct.pack(">IIB", across, down, unit)) + contents[33:]


def _with_resolution(kind: str, across: float, down: float) -> bytes:
    tags = Image.Exif()
    tags[282], tags[283], tags[296] = across, down, 2
    return film_bytes(kind, exif=tags.tobytes()) if kind != "TIFF" else film_bytes(kind, tiffinfo=tags)


@pytest.mark.parametrize(
    "with_sizes",
    [
        lambda across, down: _with_jfif_density(0, across, down),
        lambda across, down: _with_jfif_density(1, across, down),
        lambda across, down: _with_physical_size(across, down, 0),
        lambda across, down: _with_physical_size(across * 40, down * 40, 1),
        lambda across, down: _with_resolution("TIFF", across, down),
        lambda across, down: _with_resolution("JPEG", across, down),
        lambda across, down: _with_resolution("PNG", across, down),
    ],
)
@pytest.mark.fault("A8")
def test_pixels_that_are_not_square_are_refused(with_sizes: Callable[[int, int], bytes], tmp_path: Path) -> None:
    for across, down in ((1, 2), (150, 100), (100, 102)):
        with pytest.raises(ImageError, match="the pixels are not square"):
            read_bytes(with_sizes(across, down), tmp_path)
    for across, down in ((1, 1), (150, 150), (200, 201), (0, 0)):
        assert read_bytes(with_sizes(across, down), tmp_path).shape == FILM.shape


@pytest.mark.parametrize("kind", ["lossless", "extended"])
@pytest.mark.fault("A8")
def test_a_jpeg_of_12_bits_is_named_with_a_remedy_that_works(kind: str, tmp_path: Path) -> None:
    values = FILM.astype(np.uint16) * 16
    lossless = {"lossless": kind == "lossless"}
    with pytest.raises(ImageError, match=r"a JPEG of 12 bits.*\n.*\n.*\n.*16-bit PNG or TIFF .* multiplied by 16"):
        read_bytes(imagecodecs.jpeg8_encode(values, bitspersample=12, **lossless), tmp_path)
    np.testing.assert_array_equal(
        read_bytes(picture_bytes(Image.fromarray(values * 16), "PNG"), tmp_path), np.rint(values * 16 / 257)
    )


def test_signed_values_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"not supported\n.*\n  got:      signed values"):
        read_bytes(film_bytes("TIFF", tiffinfo={339: 2}), tmp_path)


@pytest.mark.fault("A8")
def test_sixteen_bits_are_scaled_from_their_full_range(tmp_path: Path) -> None:
    values = DEEP_FILM.copy()
    values[0, :5] = [0, 128, 129, 32768, 65535]
    image = read_bytes(picture_bytes(Image.fromarray(values), "PNG"), tmp_path, ".png")
    assert image[0, :5].tolist() == [0, 0, 1, 128, 255]
    np.testing.assert_array_equal(image[1:], FILM[1:])


@pytest.mark.parametrize("scale", [1, 16])
def test_stretching_maps_percentiles_to_black_and_white(scale: int, tmp_path: Path) -> None:
    values = (np.arange(101)[None] + 50).astype(np.uint16) * scale
    values = values.astype(np.uint8) if scale == 1 else values
    image = read_bytes(picture_bytes(Image.fromarray(values), "PNG"), tmp_path, ".png", stretch=(10.0, 60.0))
    expected = np.clip((np.arange(101)[None] - 10) * 255 / 50, 0, 255)
    assert np.abs(image - expected).max() <= 0.5


def test_a_film_without_contrast_cannot_be_stretched(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no contrast to stretch"):
        read_bytes(picture_bytes(Image.new("L", (5, 5), 9), "PNG"), tmp_path, ".png", stretch=(1.0, 99.0))


@pytest.mark.parametrize("stretch", [(99.0, 1.0), (-1.0, 99.0), (1.0, 101.0), (5.0, 5.0), (float("nan"), 9.0)])
def test_invalid_percentiles_are_refused(stretch: tuple[float, float], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="stretch is out of range"):
        read_bytes(film_bytes("PNG"), tmp_path, ".png", stretch=stretch)


@given(height=st.integers(1, 60), width=st.integers(1, 60), size=st.integers(1, 40), gray=st.integers(0, 255))
def test_a_letterboxed_film_keeps_its_aspect_ratio_and_its_gray(height: int, width: int, size: int, gray: int) -> None:
    framed = letterbox(np.full((height, width), gray, np.uint8), size)
    assert framed.shape == (size, size)
    assert framed.dtype == np.uint8
    inner_height = max(1, round(size * height / max(height, width)))
    inner_width = max(1, round(size * width / max(height, width)))
    top, left = (size - inner_height) // 2, (size - inner_width) // 2
    inner = framed[top : top + inner_height, left : left + inner_width]
    assert (inner == gray).all()
    assert framed.sum() == inner.sum()


def test_a_letterboxed_film_fills_the_frame_along_its_longer_side() -> None:
    framed = letterbox(np.full((30, 60), 200, np.uint8), 20)
    assert (framed[5:15] == 200).all()
    assert not framed[:5].any()
    assert not framed[15:].any()


def test_a_film_of_the_right_size_is_copied_unchanged() -> None:
    square = np.ascontiguousarray(FILM[:40])
    framed = letterbox(square, 40)
    np.testing.assert_array_equal(framed, square)
    assert not np.shares_memory(framed, square)


def test_downscaling_averages_areas() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (120, 90)).astype(np.uint8)
    means = noise.reshape(20, 6, 15, 6).mean((1, 3))
    framed = letterbox(noise, 20)[:, 2:17]
    assert framed.std() < 1.1 * means.std()
    assert abs(framed.mean() - means.mean()) < 0.5
    slope = np.add.outer(np.arange(120), np.arange(90)).astype(np.uint8)
    assert np.abs(letterbox(slope, 20)[1:-1, 3:16] - slope.reshape(20, 6, 15, 6).mean((1, 3))[1:-1, 1:-1]).max() <= 1


def test_detail_finer_than_the_frame_becomes_gray_without_aliasing() -> None:
    checkers = np.indices((512, 512)).sum(0).astype(np.uint8) % 2 * 255
    framed = letterbox(checkers, 100)[2:-2, 2:-2]
    assert abs(framed.mean() - 127.5) < 1
    assert framed.std() < 8


@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    seed=st.integers(0, 99),
    filtered=st.sampled_from(list(imagecodecs.PNG.FILTER)),
)
def test_a_gray_png_is_decoded_as_pillow_decodes_it(shape: tuple[int, int], seed: int, filtered: int) -> None:
    values = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    contents = imagecodecs.png_encode(values, filter=filtered)
    film = decode_png(contents, where="film")
    assert film.stored.tolist() == np.asarray(Image.open(io.BytesIO(contents))).tolist() == values.tolist()
