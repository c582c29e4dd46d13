"""Test that `encode_image` preserves the pixels and gives reproducible bytes."""

import hashlib
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from tests.images.broken_inputs import FILM
from wds_bone.errors import ConfigError
from wds_bone.shards.encoding import encode_image
from wds_bone.shards.manifest import Encoding

GRAY = arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20)))


@given(image=GRAY)
def test_png_and_npy_are_lossless(image: np.ndarray) -> None:
    png = Image.open(io.BytesIO(encode_image(image, "png")))
    assert png.mode == "L"
    np.testing.assert_array_equal(np.asarray(png), image)
    np.testing.assert_array_equal(np.load(io.BytesIO(encode_image(image, "npy")), allow_pickle=False), image)


def test_jpg_is_gray_and_accurate_and_smaller_at_lower_quality() -> None:
    contents = encode_image(FILM, "jpg")
    picture = Image.open(io.BytesIO(contents))
    assert picture.mode == "L"
    assert np.abs(np.asarray(picture).astype(int) - FILM).max() <= 4
    assert len(encode_image(FILM, "jpg", quality=50)) < len(contents)


@pytest.mark.parametrize("encoding", ["jpg", "png", "npy"])
def test_equal_pixels_give_equal_bytes_in_any_memory_layout(encoding: Encoding) -> None:
    contents = encode_image(FILM, encoding)
    assert encode_image(FILM.copy(), encoding) == contents
    assert encode_image(np.asfortranarray(FILM), encoding) == contents
    assert encode_image(np.repeat(FILM, 2, axis=1)[:, ::2], encoding) == contents


def test_npy_is_written_in_format_1_0() -> None:
    # NumPy has frozen the format, so this digest must never change.
    contents = encode_image(FILM, "npy")
    assert contents.startswith(b"\x93NUMPY\x01\x00")
    assert len(contents) == 128 + FILM.size
    assert hashlib.sha256(contents).hexdigest().startswith("a1d55765f83e3c20")


def test_an_unknown_encoding_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown encoding"):
        encode_image(FILM, "webp")  # type: ignore[arg-type]
