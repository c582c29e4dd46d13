"""Damaged and forged image files: small intact films of every format, and ways to change their bytes."""

import io
import struct
from collections.abc import Callable

import imagecodecs
import numpy as np
from hypothesis import strategies as st
from PIL import Image
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLossless, JPEGLSLossless, RLELossless

from tests.images.broken_inputs import DEEP_FILM, FILM, film_bytes, picture_bytes
from tests.images.dicom_films import compressed_dicom_bytes, dicom_bytes, lut_sequence

EIGHT_BITS = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
# Numbers at the limits of the fields that state sizes, counts and offsets.
LIMITS = [0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]


def _rle() -> bytes:
    planes = [np.ascontiguousarray(DEEP_FILM >> shift).astype(np.uint8) for shift in (8, 0)]
    parts = [imagecodecs.packbits_encode(plane) for plane in planes]
    parts = [part + b"\0" * (len(part) % 2) for part in parts]
    return struct.pack("<16I", 2, 64, 64 + len(parts[0]), *[0] * 13) + b"".join(parts)


def _rgba() -> bytes:
    return picture_bytes(Image.fromarray(FILM).convert("RGBA"), "PNG")


def _lossless_jpeg() -> bytes:
    return bytes(imagecodecs.ljpeg_encode(DEEP_FILM, bitspersample=12))


SEEDS: dict[str, Callable[[], bytes]] = {
    "gray.png": lambda: film_bytes("PNG"),
    "rgba.png": _rgba,
    "palette.png": lambda: film_bytes("PNG", "P", transparency=3),
    "deep.png": lambda: picture_bytes(Image.fromarray(DEEP_FILM * 16), "PNG", dpi=(100, 100)),
    "plain.jpg": lambda: film_bytes("JPEG"),
    "progressive.jpg": lambda: film_bytes("JPEG", "RGB", progressive=True, exif=_orientation()),
    "plain.tif": lambda: film_bytes("TIFF"),
    "deep.tif": lambda: picture_bytes(Image.fromarray(DEEP_FILM * 16), "TIFF", compression="tiff_lzw"),
    "jpeg.tif": lambda: film_bytes("TIFF", compression="jpeg"),
    "one-bit.tif": lambda: film_bytes("TIFF", "1", compression="group4"),
    "window.dcm": lambda: dicom_bytes(DEEP_FILM, WindowCenter=1700, WindowWidth=3400, PixelPaddingValue=0),
    "headerless.dcm": lambda: dicom_bytes(DEEP_FILM, headerless=True, RescaleSlope=2, RescaleIntercept=-5),
    "tables.dcm": lambda: dicom_bytes(
        DEEP_FILM,
        ModalityLUTSequence=lut_sequence(np.arange(4096), bits=12),
        VOILUTSequence=lut_sequence(np.arange(4096) // 16, bits=8),
    ),
    "rle.dcm": lambda: compressed_dicom_bytes(DEEP_FILM, _rle(), RLELossless),
    "jpeg.dcm": lambda: compressed_dicom_bytes(FILM, film_bytes("JPEG"), JPEGBaseline8Bit, **EIGHT_BITS),
    "lossless.dcm": lambda: compressed_dicom_bytes(DEEP_FILM, _lossless_jpeg(), JPEGLossless),
    "jpeg-ls.dcm": lambda: compressed_dicom_bytes(DEEP_FILM, imagecodecs.jpegls_encode(DEEP_FILM), JPEGLSLossless),
    "jpeg-2000.dcm": lambda: compressed_dicom_bytes(
        DEEP_FILM, imagecodecs.jpeg2k_encode(DEEP_FILM, level=0, codecformat="j2k"), JPEG2000Lossless
    ),
}


def _orientation() -> bytes:
    tags = Image.Exif()
    tags[0x0112] = 6
    return tags.tobytes()


@st.composite
def damaged_files(draw: st.DrawFn) -> bytes:
    """Draw an intact film, changed in up to four places."""
    contents = draw(st.sampled_from(list(SEEDS.values())))()
    for _ in range(draw(st.integers(1, 4))):
        contents = draw(st.sampled_from(_CHANGES))(contents, draw)
    return contents


def _place(contents: bytes, draw: st.DrawFn) -> int:
    # Half of all changes are in the first 600 bytes, where most formats have their headers.
    limit = draw(st.sampled_from([600, len(contents)]))
    return draw(st.integers(0, max(0, min(limit, len(contents)) - 1)))


def _flip_bit(contents: bytes, draw: st.DrawFn) -> bytes:
    changed, place = bytearray(contents or b"\0"), _place(contents, draw)
    changed[place] ^= 1 << draw(st.integers(0, 7))
    return bytes(changed)


def _truncate(contents: bytes, draw: st.DrawFn) -> bytes:
    return contents[: _place(contents, draw)]


def _set_limit(contents: bytes, draw: st.DrawFn) -> bytes:
    place, order = _place(contents, draw), draw(st.sampled_from("<>"))
    size, code = draw(st.sampled_from([(1, "B"), (2, "H"), (4, "I")]))
    number = draw(st.sampled_from(LIMITS)) % 2 ** (8 * size)
    return contents[:place] + struct.pack(order + code, number) + contents[place + size :]


def _move(contents: bytes, draw: st.DrawFn) -> bytes:
    start, size, target = _place(contents, draw), draw(st.integers(1, 64)), _place(contents, draw)
    part = contents[start : start + size]
    rest = contents if draw(st.booleans()) else contents[:start] + contents[start + size :]
    return rest[:target] + part + rest[target:]


def _splice(contents: bytes, draw: st.DrawFn) -> bytes:
    other = draw(st.sampled_from(list(SEEDS.values())))()
    start, target = _place(other, draw), _place(contents, draw)
    return contents[:target] + other[start : start + draw(st.integers(1, 400))] + contents[target:]


def _mend_png(contents: bytes, draw: st.DrawFn) -> bytes:
    """Correct the checksums of a PNG, so that its changed contents reach the decoder."""
    if not contents.startswith(b"\x89PNG"):
        return contents
    result, offset = io.BytesIO(), 8
    result.write(contents[:8])
    while offset + 12 <= len(contents):
        (size,) = struct.unpack_from(">I", contents, offset)
        chunk = contents[offset + 4 : offset + 8 + size]
        result.write(
            struct.pack(">I", max(0, len(chunk) - 4)) + chunk + struct.pack(">I", imagecodecs.zlib_crc32(chunk))
        )
        offset += 12 + size
    return result.getvalue()


_CHANGES = [_flip_bit, _flip_bit, _set_limit, _set_limit, _truncate, _move, _splice, _mend_png]
