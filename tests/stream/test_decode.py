import contextlib
import io

import numpy as np
import pytest
from PIL import Image

from wds_bone.shards.encoding import encode_image
from wds_bone.stream.decode import NPY_HEADER_BYTES, check_npy_header, decode_into

STORED = (24, 32)


def gradient_image(shape: tuple[int, int]) -> np.ndarray:
    return (np.add.outer(np.arange(shape[0]), np.arange(shape[1])) * 3).astype(np.uint8)


@pytest.mark.parametrize("encoding", ["jpg", "png", "npy"])
def test_an_image_fills_its_row_of_the_batch_and_no_other(encoding: str) -> None:
    batch = np.zeros((3, *STORED), np.uint8)
    decode_into(encode_image(gradient_image(STORED), encoding), encoding, batch[1])  # type: ignore[arg-type]
    assert np.abs(batch[1].astype(int) - gradient_image(STORED)).max() <= (2 if encoding == "jpg" else 0)
    assert not batch[[0, 2]].any()


@pytest.mark.parametrize("encoding", ["jpg", "png", "npy"])
@pytest.mark.parametrize("shape", [(24, 31), (32, 24), (23, 32), (48, 64), (16, 48), (8, 8)])
def test_an_image_of_another_size_is_refused_and_other_rows_do_not_change(
    encoding: str, shape: tuple[int, int]
) -> None:
    batch = np.zeros((3, *STORED), np.uint8)
    with pytest.raises(ValueError, match=rf"{shape[0]}\D+{shape[1]}"):
        decode_into(encode_image(gradient_image(shape), encoding), encoding, batch[1])  # type: ignore[arg-type]
    assert not batch[[0, 2]].any()


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1", "I;16"])
def test_a_png_of_any_color_type_becomes_gray(mode: str) -> None:
    gray = Image.fromarray(gradient_image(STORED) // 128 * 255)
    image = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257) if mode == "I;16" else gray.convert(mode)
    file = io.BytesIO()
    image.save(file, "PNG")
    row = np.zeros(STORED, np.uint8)
    decode_into(file.getvalue(), "png", row)
    assert (row == np.asarray(gray)).all()


def test_the_values_of_a_16_bit_png_are_rounded_to_the_nearest_of_8_bits() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    row = np.zeros((256, 256), np.uint8)
    decode_into(file.getvalue(), "png", row)
    assert (row == np.rint(values / 257)).all()


def test_a_gray_png_with_a_transparent_color_keeps_its_gray() -> None:
    gray = Image.fromarray(gradient_image(STORED))
    file = io.BytesIO()
    gray.save(file, "PNG", transparency=7)
    row = np.zeros(STORED, np.uint8)
    decode_into(file.getvalue(), "png", row)
    assert (row == np.asarray(gray)).all()


def test_a_png_with_any_flipped_bit_is_decoded_or_refused() -> None:
    intact = encode_image(gradient_image((9, 7)), "png")
    row = np.zeros((9, 7), np.uint8)
    for bit in range(8 * len(intact)):
        changed = bytearray(intact)
        changed[bit // 8] ^= 1 << bit % 8
        with contextlib.suppress(ValueError):
            decode_into(bytes(changed), "png", row)


@pytest.mark.parametrize(
    ("encoding", "message"), [("jpg", "JPEG"), ("png", "(?i)png"), ("npy", "not a .npy file of version 1.0")]
)
def test_bytes_that_are_not_an_image_are_refused(encoding: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_into(b"not an image, but long enough to look like one", encoding, np.zeros(STORED, np.uint8))


def header_of(array: np.ndarray) -> bytearray:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=(1, 0))
    return bytearray(file.getvalue()[: len(file.getvalue()) - array.nbytes])


def test_the_header_of_an_array_like_the_row_is_accepted_and_has_the_known_length() -> None:
    header = header_of(np.zeros(STORED, np.uint8))
    check_npy_header(memoryview(header), np.zeros(STORED, np.uint8))
    assert len(header) == NPY_HEADER_BYTES


WRONG_HEADERS = {
    "transposed": header_of(np.zeros(STORED[::-1], np.uint8)),
    "Fortran order": header_of(np.zeros(STORED, np.uint8, order="F")),
    "signed": header_of(np.zeros(STORED, np.int8)),
    "bool": header_of(np.zeros(STORED, np.bool_)),
    "one dimension": header_of(np.zeros(STORED[0] * STORED[1], np.uint8)),
    "too short": bytearray(b"\x93NUMPY\x01\0\x36\0") + header_of(np.zeros(STORED, np.uint8))[10:64] + bytes(64),
    "too long": bytearray(b"\x93NUMPY\x01\0\xff\0") + header_of(np.zeros(STORED, np.uint8))[10:],
    "no header": bytearray(NPY_HEADER_BYTES),
    "a call": bytearray(b"\x93NUMPY\x01\0\x76\0" + b"__import__('os').abort()".ljust(117) + b"\n"),
    "unbalanced": bytearray(b"\x93NUMPY\x01\0\x76\0" + b"((((({[".ljust(117) + b"\n"),
}


@pytest.mark.parametrize("header", WRONG_HEADERS.values(), ids=WRONG_HEADERS)
def test_a_wrong_header_is_refused(header: bytearray) -> None:
    with pytest.raises(ValueError, match=r"header|pixels|uint8|version"):
        check_npy_header(memoryview(header), np.zeros(STORED, np.uint8))


@pytest.mark.parametrize("encoding", ["jpg", "png", "npy"])
def test_an_image_of_another_size_is_letterboxed_on_request(encoding: str) -> None:
    row = np.zeros((16, 16), np.uint8)
    decode_into(encode_image(np.full((8, 16), 200, np.uint8), encoding), encoding, row, fit=True)
    assert abs(int(row[8, 8]) - 200) <= 2
    assert row[0, 0] == 0
