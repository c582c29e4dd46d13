"""Decode PNG, JPEG and TIFF to a `Film`.

In: the contents of a file.
Out: its upright values, and which of them mean black and white.
Invariant: the header is checked before anything is decoded; images that are damaged, animated or in an ambiguous color
space are refused.

Pillow's file classes are called directly, because `Image.open` warns about large images before it returns their size.
"""

import io
import struct
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, TypeVar

import imagecodecs
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from zlib_ng.zlib_ng import crc32

from wds_bone.images.codestream import read_codestream
from wds_bone.images.faults import (
    check_pixels_are_square,
    check_size,
    color_error,
    damage_error,
    film_error,
    frame_count_error,
)
from wds_bone.images.film import Film

PillowImage = TypeVar("PillowImage", bound=ImageFile.ImageFile)

_ORIENTATION_TAG = 0x0112
_SAMPLE_FORMAT_TAG, _SIGNED = 339, 2
_RESOLUTION_TAGS = 282, 283
_BITS_TAG, _PHOTOMETRIC_TAG, _WHITE_IS_ZERO = 258, 262, 0
_PNG_BITS_OFFSET = 24
_MAX_CHUNKS = 100_000
# Bit depth, color type, compression, filter and interlace method (PNG specification 11.2.2): 8-bit gray, row by row.
_PNG_FORMAT, _GRAY_FORMAT = slice(24, 29), b"\x08\0\0\0\0"
_MODES_UP_TO_8_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX")
_MODES_ABOVE_8_BITS = ("I;16", "I;16B")
# Chunks that cannot state transparency or an orientation, which text chunks can do as well as eXIf.
_NEUTRAL_CHUNKS = frozenset((b"IHDR", b"IDAT", b"IEND", b"pHYs", b"tIME"))
# The transformation that makes an image upright, by its EXIF orientation (Exif 2.32, table 6).
_TRANSFORMATIONS: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    2: np.fliplr,
    3: lambda values: np.rot90(values, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda values: np.rot90(values, -1),
    7: lambda values: np.rot90(values, 2).T,
    8: np.rot90,
}


def decode_png(contents: bytes, *, where: str) -> Film:
    """Return the film in a PNG file; transparent pixels are black.

    Raises:
        ImageError: if the image is too large, truncated or animated, or if a checksum is wrong.
    """
    chunk_types = list(islice(_png_chunk_types(contents, where), _MAX_CHUNKS + 1))
    if len(chunk_types) > _MAX_CHUNKS:
        raise damage_error(where, contents, f"more than {_MAX_CHUNKS:,} chunks")
    image = _open(PngImageFile, contents, where)
    density = image.info.get("aspect") or image.info.get("dpi") or (1, 1)
    check_pixels_are_square("the chunk pHYs", *density, where=where)
    if b"acTL" in chunk_types:
        raise frame_count_error(where, "an animation")
    if contents[_PNG_FORMAT] == _GRAY_FORMAT and _NEUTRAL_CHUNKS.issuperset(chunk_types):
        return _decode_gray_png(image, contents, where)
    return decode_picture(image, contents, num_bits=contents[_PNG_BITS_OFFSET], where=where)


def decode_jpeg(contents: bytes, *, where: str) -> Film:
    """Return the film in a JPEG file.

    JPEG has no checksum, so a flipped bit in the image data can go unnoticed. Damage that libjpeg detects is refused.

    Raises:
        ImageError: if the image is too large, truncated, damaged or CMYK, or if there are several images.
    """
    _check_num_bits(contents, where)
    image = _open(JpegImageFile, contents, where)
    if "jfif_density" in image.info:
        check_pixels_are_square("the JFIF density", *image.info["jfif_density"], where=where)
    if "mpoffset" in image.info:
        raise frame_count_error(where, "several JPEG images (MPO)")
    if image.mode not in ("L", "RGB"):
        raise color_error(where, f"mode {image.mode}")
    try:
        gray = simplejpeg.decode_jpeg(contents, "GRAY", strict=True)[:, :, 0]
    except ValueError as error:
        raise damage_error(where, contents, error) from error
    return Film(_upright(image, gray, contents, where), black=0, white=255)


def decode_tiff(contents: bytes, *, where: str) -> Film:
    """Return the film in a TIFF file of 1, 8, 12 or 16 bits.

    TIFF has no checksum, so a flipped bit in the image data can go unnoticed.

    Raises:
        ImageError: if the image is too large, truncated, damaged, CMYK, float or 32-bit, or if there are several pages.
    """
    image = _open(TiffImageFile, contents, where)
    if _has_second_page(image, contents, where):
        raise frame_count_error(where, "at least 2 pages")
    return decode_picture(image, contents, num_bits=tiff_bits(image), where=where)


def decode_picture(image: Image.Image, contents: bytes, *, num_bits: int, where: str) -> Film:
    """Return the film in an image that Pillow has opened; transparent pixels are black.

    Args:
        image: the image, upright according to its EXIF orientation.
        contents: its file, for error messages.
        num_bits: the bits of a stored number.
        where: the file, for error messages.

    Raises:
        ImageError: if the image is damaged, in another color format, or has pixels that are not square.
    """
    above_8_bits = image.mode in _MODES_ABOVE_8_BITS
    if not (above_8_bits or image.mode in _MODES_UP_TO_8_BITS) or (above_8_bits and image.has_transparency_data):
        raise color_error(where, f"mode {image.mode}")
    try:
        values = np.asarray(image).astype(np.uint16, copy=False) if above_8_bits else _gray_values(image)
    except Exception as error:  # Pillow raises arbitrary exceptions for damaged files
        raise damage_error(where, contents, error) from error
    if isinstance(image, TiffImageFile) and _SIGNED in image.tag_v2.get(_SAMPLE_FORMAT_TAG, ()):
        raise color_error(where, "signed values")  # Pillow reads signed bytes as if they were unsigned
    values = _upright(image, values, contents, where)
    # Pillow reduces colors of 16 bits to their upper 8 bits, so the limit of gray converted from them is 255.
    limit = 2**num_bits - 1 if above_8_bits else 255
    black, white = (limit, 0) if above_8_bits and _white_is_zero(image) else (0, limit)
    return Film(values, black=black, white=white, range_is_stated=num_bits <= 8)


def tiff_bits(image: TiffImageFile) -> int:
    """Return the bits of a stored number."""
    return int(max(image.tag_v2.get(_BITS_TAG, (1,))))


def _has_second_page(image: TiffImageFile, contents: bytes, where: str) -> bool:
    try:
        image.seek(1)
    except EOFError:
        return False
    except Exception as error:  # Pillow raises arbitrary exceptions for damaged files
        raise damage_error(where, contents, error) from error
    return True


def _check_num_bits(contents: bytes, where: str) -> None:
    codestream = read_codestream(contents)
    if codestream is not None and codestream.num_bits != 8:
        factor = 2 ** max(16 - codestream.num_bits, 0)
        raise film_error(
            where,
            f"the film is a JPEG of {codestream.num_bits} bits, which is not supported",
            "a JPEG of 8 bits",
            f"{codestream.num_bits} bits",
            do=f"convert it to a 16-bit PNG or TIFF with its values multiplied by {factor}",
        )


def _open(file_class: type[PillowImage], contents: bytes, where: str) -> PillowImage:
    """Return the image with only its header read."""
    try:
        image = file_class(io.BytesIO(contents))
    except Exception as error:  # Pillow raises arbitrary exceptions for damaged headers
        raise damage_error(where, contents, error) from error
    check_size(image.height, image.width, where=where)
    return image


def _png_chunk_types(contents: bytes, where: str) -> Iterator[bytes]:
    """Yield the type of each chunk after checking its checksum (PNG specification 5.3); Pillow checks only some."""
    offset, chunk_type = 8, b""
    while chunk_type != b"IEND":
        size, chunk_type = struct.unpack_from(">I4s", contents.ljust(offset + 8, b"\0"), offset)
        end = offset + 8 + size
        if contents[end : end + 4] != struct.pack(">I", crc32(contents[offset + 4 : end])):
            problem = "truncated" if end + 4 > len(contents) else "wrong checksum"
            raise damage_error(where, contents, f"{problem} in the chunk {chunk_type!r} at byte {offset}")
        yield chunk_type
        offset = end + 4


def _decode_gray_png(image: PngImageFile, contents: bytes, where: str) -> Film:
    """Return the film in an upright 8-bit gray PNG, the most common kind, in two thirds of the time of Pillow."""
    gray = np.empty((image.height, image.width), np.uint8)  # sized by the checked header, whatever the data says
    try:
        imagecodecs.png_decode(contents, out=gray)
    except (RuntimeError, ValueError) as error:  # the message comes from libpng and may not be text
        raise damage_error(where, contents, error) from error
    return Film(gray, black=0, white=255)


def _gray_values(image: Image.Image) -> NDArray[np.uint8]:
    """Return luma (ITU-R BT.601); palette indices are replaced by their colors, and transparent pixels become black."""
    if image.has_transparency_data:
        colors = image if image.mode == "RGBA" else image.convert("RGBA")
        return np.asarray(ImageChops.multiply(colors.convert("L"), colors.getchannel("A")))
    return np.asarray(image.convert("L"))


def _white_is_zero(image: Image.Image) -> bool:
    # Pillow inverts such a TIFF up to 8 bits, but returns the values as stored from 9 bits on.
    return isinstance(image, TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC_TAG) == _WHITE_IS_ZERO


def _upright(image: Image.Image, values: NDArray[Any], contents: bytes, where: str) -> NDArray[Any]:
    """Return the values made upright by the EXIF orientation; Pillow does this for TIFF itself and removes the tag."""
    try:
        exif = image.getexif()
        orientation, densities = exif.get(_ORIENTATION_TAG), [float(exif.get(tag) or 0) for tag in _RESOLUTION_TAGS]
    except Exception as error:  # Pillow raises arbitrary exceptions for damaged files
        raise damage_error(where, contents, error) from error
    check_pixels_are_square("the tags XResolution and YResolution", *densities, where=where)
    transformation = _TRANSFORMATIONS.get(orientation) if isinstance(orientation, int) else None
    return transformation(values) if transformation else values
