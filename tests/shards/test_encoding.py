"""`encode_image`: the pixels survive, the bytes repeat."""

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
def test_png_and_npy_give_the_pixels_back(image: np.ndarray) -> None:
    png = Image.open(io.BytesIO(encode_image(image, "png")))
    assert png.mode == "L"
    np.testing.assert_array_equal(np.asarray(png), image)
    np.testing.assert_array_equal(np.load(io.BytesIO(encode_image(image, "npy")), allow_pickle=False), image)


def test_jpg_is_gray_and_close_and_smaller_at_lower_quality() -> None:
    contents = encode_image(FILM, "jpg")
    picture = Image.open(io.BytesIO(contents))
    assert picture.mode == "L"
    assert np.abs(np.asarray(picture).astype(int) - FILM).max() <= 4
    assert len(encode_image(FILM, "jpg", quality=50)) < len(contents)


@pytest.mark.parametrize("encoding", ["jpg", "png", "npy"])
def test_equal_pixels_give_equal_bytes_however_they_lie_in_memory(encoding: Encoding) -> None:
    contents = encode_image(FILM, encoding)
    assert encode_image(FILM.copy(), encoding) == contents
    assert encode_image(np.asfortranarray(FILM), encoding) == contents
    assert encode_image(np.repeat(FILM, 2, axis=1)[:, ::2], encoding) == contents


def test_the_bytes_of_npy_are_those_of_format_1_0() -> None:
    # The format is frozen by NumPy; the digest may never change.
    contents = encode_image(FILM, "npy")
    assert contents.startswith(b"\x93NUMPY\x01\x00")
    assert len(contents) == 128 + FILM.size
    assert hashlib.sha256(contents).hexdigest().startswith("a1d55765f83e3c20")


def test_another_encoding_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown encoding"):
        encode_image(FILM, "webp")  # type: ignore[arg-type]
