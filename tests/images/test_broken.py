"""Test that truncated, damaged and forged images give an `ImageError`, never an image or a crash."""

import contextlib
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.images.broken_inputs import film_bytes, flipped, picture_bytes, png_chunk, write_broken_images
from tests.images.dicom_films import dicom_bytes
from wds_bone.errors import ImageError
from wds_bone.images.raster import decode_png
from wds_bone.images.read import MAX_PIXELS, read_image

TINY = np.arange(30, dtype=np.uint8).reshape(6, 5) * 8
SIGNATURES = [
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff\xe0",
    b"II*\0\x08\0\0\0",
    b"MM\0*",
    b"\x08\0\x05\0CS\x04\0",
    b"\0" * 128 + b"DICM",
]


@pytest.mark.fault("A8", "A9")
def test_every_broken_image_gives_its_own_clear_error(tmp_path: Path) -> None:
    patterns = write_broken_images(tmp_path)
    for name, pattern in patterns.items():
        with pytest.raises(ImageError) as caught:
            read_image(tmp_path / name)
        assert re.search(pattern, str(caught.value)), f"{pattern}\n{caught.value}"
        assert str(caught.value).startswith(str(tmp_path / name))
    assert len(patterns) >= 30


@pytest.mark.fault("A8")
def test_every_flipped_bit_of_a_png_is_detected(tmp_path: Path) -> None:
    contents = picture_bytes(Image.fromarray(TINY), "PNG")
    path = tmp_path / "film.png"
    for offset in range(len(contents)):
        for bit in range(8):
            path.write_bytes(flipped(contents, offset, bit))
            with pytest.raises(ImageError):
                read_image(path)


@pytest.mark.parametrize(("kind", "suffix"), [("PNG", ".png"), ("JPEG", ".jpg"), ("TIFF", ".tif")])
@pytest.mark.fault("A8")
def test_every_truncation_is_detected(kind: str, suffix: str, tmp_path: Path) -> None:
    contents = picture_bytes(Image.fromarray(TINY), kind)
    path = tmp_path / f"film{suffix}"
    for num_bytes in range(len(contents)):
        path.write_bytes(contents[:num_bytes])
        with pytest.raises(ImageError):
            read_image(path)


@given(signature=st.sampled_from(SIGNATURES), rest=st.binary(max_size=300))
def test_any_bytes_give_a_film_or_an_image_error(
    signature: bytes, rest: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "film"
    path.write_bytes(signature + rest)
    with contextlib.suppress(ImageError):
        assert read_image(path).ndim == 2


@given(offset=st.integers(0, 2000), bit=st.integers(0, 7), kind=st.sampled_from(["JPEG", "TIFF"]))
def test_a_flipped_bit_gives_a_film_or_an_image_error(
    offset: int, bit: int, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    contents = film_bytes(kind)
    path = tmp_path_factory.mktemp("fuzz") / "film"
    path.write_bytes(flipped(contents, offset % len(contents), bit))
    with contextlib.suppress(ImageError):
        assert read_image(path).size <= MAX_PIXELS


def test_a_chunk_that_ends_in_iend_does_not_end_the_checks(tmp_path: Path) -> None:
    contents = picture_bytes(Image.fromarray(TINY), "PNG")
    comment = png_chunk(b"tEXt", b"comment\0IEND")
    path = tmp_path / "film.png"
    path.write_bytes(contents[:33] + comment + flipped(contents, -20)[33:])
    with pytest.raises(ImageError, match="wrong checksum"):
        read_image(path)
    path.write_bytes(contents[:33] + comment + contents[33:])
    np.testing.assert_array_equal(read_image(path), TINY)


PIXELS = b"".join(b"\0" + row.tobytes() for row in TINY)  # each row is preceded by its filter type, 0 for none
DEFLATED = zlib.compress(PIXELS)
END = png_chunk(b"IEND", b"")


def gray_header(width: int, height: int, interlaced: int = 0) -> bytes:
    return png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, interlaced))


def image_data(deflated: bytes) -> bytes:
    return png_chunk(b"IDAT", deflated) + END


# The chunks have correct checksums but wrong contents.
FORGED_PNGS = {
    "too little image data": gray_header(5, 6) + image_data(zlib.compress(PIXELS[:-3])),
    "truncated image data": gray_header(5, 6) + image_data(DEFLATED[:-6]),
    "wrong checksum of the image data": gray_header(5, 6) + image_data(flipped(DEFLATED, -1)),
    "not deflated": gray_header(5, 6) + image_data(PIXELS),
    "an unknown filter type": gray_header(5, 6) + image_data(zlib.compress(b"\x09" + PIXELS[1:])),
    "no image data": gray_header(5, 6) + END,
    "a larger size than the image data": gray_header(500, 600) + image_data(DEFLATED),
    "two headers, the larger one first": gray_header(50, 60) + gray_header(5, 6) + image_data(DEFLATED),
    "two headers, the larger one last": gray_header(5, 6) + gray_header(50, 60) + image_data(DEFLATED),
    "interlaced, but truncated": gray_header(5, 6, interlaced=1) + image_data(zlib.compress(PIXELS[:9])),
}


@pytest.mark.parametrize("chunks", FORGED_PNGS.values(), ids=FORGED_PNGS)
@pytest.mark.fault("A8")
def test_a_forged_png_with_correct_checksums_is_an_image_error(
    chunks: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "film.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    with pytest.raises(ImageError, match=r"film\.png: the image is damaged"):
        read_image(path)
    assert capfd.readouterr() == ("", "")


def test_an_interlaced_png_is_read(capfd: pytest.CaptureFixture[str]) -> None:
    # A single pixel has only the first of the seven passes of Adam7, so the test needs no interlacing encoder.
    chunks = gray_header(1, 1, interlaced=1) + image_data(zlib.compress(b"\0\x4d"))
    film = decode_png(b"\x89PNG\r\n\x1a\n" + chunks, where="film")
    assert film.stored.tolist() == [[0x4D]]
    assert capfd.readouterr() == ("", "")


@pytest.mark.fault("A8")
def test_the_error_for_a_missing_file_names_it(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=re.escape(f"{tmp_path / 'absent.png'}: cannot be read")):
        read_image(tmp_path / "absent.png")


@pytest.mark.fault("A9")
def test_endless_headers_are_refused(tmp_path: Path) -> None:
    png, film = film_bytes("PNG"), dicom_bytes(np.zeros((4, 4), np.uint16))
    image_group = film.index(b"\x28\x00\x02\x00")
    (tmp_path / "film.png").write_bytes(png[:33] + png_chunk(b"tEXt", b"a\0b") * 100_001 + png[33:])
    (tmp_path / "film.dcm").write_bytes(
        film[:image_group] + b"\x09\x00\x10\x10LO\x02\x00ab" * 100_001 + film[image_group:]
    )
    for name, problem in (("film.png", "more than 100,000 chunks"), ("film.dcm", "the DICOM header is too long")):
        with pytest.raises(ImageError, match=problem):
            read_image(tmp_path / name)
