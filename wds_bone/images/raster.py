"""Decode PNG, JPEG and TIFF to a `Film`.

In: the contents of a file. Out: its values, turned upright, with what is black and white. Invariant: the header is
judged before anything is decoded, and what is damaged, animated or in a color space without one reading is refused.
Pillow's file classes are called directly: `Image.open` warns of large images by itself before it hands out their size.
"""

import io
import struct
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import imagecodecs
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import ImageChops, ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from zlib_ng.zlib_ng import crc32

from wds_bone.images.faults import check_size, damaged, several_frames, unknown_colors
from wds_bone.images.film import Film

Picture = TypeVar("Picture", bound=ImageFile.ImageFile)

_ORIENTATION_TAG = 0x0112
_BITS_TAG, _PHOTOMETRIC_TAG, _WHITE_IS_ZERO = 258, 262, 0
_PNG_BITS_OFFSET = 24
# Bit depth, color, compression, filter and interlace method (PNG specification 11.2.2): 8 bits of gray, row by row.
_PNG_KIND, _PLAIN_GRAY = slice(24, 29), b"\x08\0\0\0\0"
_COLOR_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX")
_DEEP_MODES = ("I;16", "I;16B")
# What says nothing of transparency or of a turn, which text may do as well as eXIf.
_PLAIN_CHUNKS = frozenset((b"IHDR", b"IDAT", b"IEND", b"pHYs", b"tIME"))
# What turns an image upright, by its EXIF orientation (Exif 2.32, table 6).
_TURNS: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    2: np.fliplr,
    3: lambda image: np.rot90(image, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(image, 2).T,
    8: np.rot90,
}


def decode_png(contents: bytes, *, where: str) -> Film:
    """Return the film in a PNG; transparent parts are black.

    Raises:
        ImageError: too large, a checksum fails, cut short, animated.
    """
    picture = _open(PngImageFile, contents, where)
    chunks = list(_png_chunks(contents, where))
    if b"acTL" in chunks:
        raise several_frames(where, "an animation")
    if contents[_PNG_KIND] == _PLAIN_GRAY and _PLAIN_CHUNKS.issuperset(chunks):
        return _decode_plain_png(picture, contents, where)
    return _pillow_film(picture, contents, where)


def decode_jpeg(contents: bytes, *, where: str) -> Film:
    """Return the film in a JPEG.

    A flipped bit inside the picture can go unseen: JPEG has no checksum. What libjpeg notices is refused.

    Raises:
        ImageError: too large, cut short or damaged, CMYK, several pictures.
    """
    picture = _open(JpegImageFile, contents, where)
    if "mpoffset" in picture.info:
        raise several_frames(where, "several JPEG pictures (MPO)")
    if picture.mode not in ("L", "RGB"):
        raise unknown_colors(where, f"mode {picture.mode}")
    try:
        gray = simplejpeg.decode_jpeg(contents, "GRAY", strict=True)[:, :, 0]
    except ValueError as error:
        raise damaged(where, contents, error) from error
    return Film(_upright(picture, gray, contents, where), black=0, white=255)


def decode_tiff(contents: bytes, *, where: str) -> Film:
    """Return the film in a TIFF of 1, 8, 12 or 16 bits.

    A flipped bit inside the picture can go unseen: TIFF has no checksum.

    Raises:
        ImageError: too large, cut short or damaged, several pages, CMYK, float or 32 bits.
    """
    picture = _open(TiffImageFile, contents, where)
    try:
        num_pages = picture.n_frames
    except Exception as error:  # as above
        raise damaged(where, contents, error) from error
    if num_pages > 1:
        raise several_frames(where, f"{num_pages} pages")
    return _pillow_film(picture, contents, where)


def _open(file_class: type[Picture], contents: bytes, where: str) -> Picture:
    """Return the picture with only its header read."""
    try:
        picture = file_class(io.BytesIO(contents))
    except Exception as error:  # Pillow raises whatever the broken part of the header leads to
        raise damaged(where, contents, error) from error
    check_size(picture.height, picture.width, where=where)
    return picture


def _png_chunks(contents: bytes, where: str) -> Iterator[bytes]:
    """Yield the type of each chunk after checking it (PNG specification 5.3), which Pillow does for some only."""
    offset, kind = 8, b""
    while kind != b"IEND":
        size, kind = struct.unpack_from(">I4s", contents.ljust(offset + 8, b"\0"), offset)
        end = offset + 8 + size
        if contents[end : end + 4] != struct.pack(">I", crc32(contents[offset + 4 : end])):
            problem = "cut short" if end + 4 > len(contents) else "checksum wrong"
            raise damaged(where, contents, f"{problem} in the chunk {kind!r} at byte {offset}")
        yield kind
        offset = end + 4


def _decode_plain_png(picture: PngImageFile, contents: bytes, where: str) -> Film:
    """Return the film in a PNG of upright 8-bit gray, as most are, in two thirds of the time that Pillow takes."""
    gray = np.empty((picture.height, picture.width), np.uint8)  # the size that was checked
    try:
        imagecodecs.png_decode(contents, out=gray)
    except (RuntimeError, ValueError) as error:  # libpng's word, which need not be text
        raise damaged(where, contents, error) from error
    return Film(gray, black=0, white=255)


def _pillow_film(picture: ImageFile.ImageFile, contents: bytes, where: str) -> Film:
    is_deep = picture.mode in _DEEP_MODES
    if not (is_deep or picture.mode in _COLOR_MODES) or (is_deep and picture.has_transparency_data):
        raise unknown_colors(where, f"mode {picture.mode}")
    try:
        values = np.asarray(picture) if is_deep else _gray_values(picture)
    except Exception as error:  # as above
        raise damaged(where, contents, error) from error
    values = _upright(picture, values, contents, where)
    num_bits = _num_bits(picture, contents)
    # Pillow keeps the upper 8 bits of deep colors, so the limit of gray is one of 8 bits.
    limit = 2**num_bits - 1 if is_deep else 255
    black, white = (limit, 0) if is_deep and _white_is_zero(picture) else (0, limit)
    return Film(values, black=black, white=white, range_is_stated=num_bits <= 8)


def _gray_values(picture: ImageFile.ImageFile) -> NDArray[np.uint8]:
    """Return luma (ITU-R BT.601); a palette counts by its colors, and what is transparent turns black."""
    if picture.has_transparency_data:
        colors = picture.convert("RGBA")
        return np.asarray(ImageChops.multiply(colors.convert("L"), colors.getchannel("A")))
    return np.asarray(picture.convert("L"))


def _num_bits(picture: ImageFile.ImageFile, contents: bytes) -> int:
    if isinstance(picture, TiffImageFile):
        return int(max(picture.tag_v2.get(_BITS_TAG, (1,))))
    return contents[_PNG_BITS_OFFSET]


def _white_is_zero(picture: ImageFile.ImageFile) -> bool:
    # Pillow turns such a TIFF over up to 8 bits, and hands out the values as they are from 9 bits on.
    return isinstance(picture, TiffImageFile) and picture.tag_v2.get(_PHOTOMETRIC_TAG) == _WHITE_IS_ZERO


def _upright(picture: ImageFile.ImageFile, values: NDArray[Any], contents: bytes, where: str) -> NDArray[Any]:
    """Return the values turned as the EXIF orientation says; Pillow has turned a TIFF and taken its tag away."""
    try:
        orientation = picture.getexif().get(_ORIENTATION_TAG)
    except Exception as error:  # as above
        raise damaged(where, contents, error) from error
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return turn(values) if turn else values
