"""Decode one image straight into its row of the batch.

In: verified bytes and their encoding.
Out: pixels in a uint8 (H, W) row.
Invariant: a row is filled by an image of exactly its size, or an error is raised.

The decoders reject malformed bytes without crashing: simplejpeg (libjpeg-turbo) for JPEG, imagecodecs (libpng) for PNG,
and NumPy for raw arrays. torchvision's PNG decoder crashes the process on a single flipped bit.
"""

import io
from collections.abc import Callable
from functools import lru_cache

import imagecodecs
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from wds_bone.images.read import letterbox
from wds_bone.shards.image_size import png_size

Row = NDArray[np.uint8]
Contents = bytes | memoryview
NPY_HEADER_BYTES = 128
"""The length of the header that NumPy writes before the pixels of a gray image, whatever its size."""
_PNG_KIND = slice(24, 26)  # bit depth and color type in the IHDR chunk
_GRAY_OF_8_BITS = b"\x08\x00"
_NPY_MAGIC = b"\x93NUMPY\x01\x00"


def decode_into(contents: Contents, encoding: str, row: Row, *, fit: bool = False) -> None:
    """Decode `contents` into `row`, uint8 (H, W).

    Args:
        contents: an encoded image.
        encoding: jpg, png or npy.
        row: filled in place.
        fit: letterbox an image of another size instead of refusing it.

    Raises:
        ValueError: if the contents are not such an image, or its size differs from that of the row.
    """
    if fit:
        _copy(letterbox(_DECODERS[encoding](contents), row.shape[0]), row)
    elif encoding == "jpg":
        image = simplejpeg.decode_jpeg(contents, colorspace="GRAY", buffer=row)  # refuses an image larger than the row
        _check_shape(image.shape[:2], row)
    elif encoding == "png" and contents[_PNG_KIND] == _GRAY_OF_8_BITS:
        _check_shape(png_size(contents), row)
        try:
            _png_pixels(contents, out=row)
        except ValueError:  # a tRNS chunk makes imagecodecs return alpha, too; damage fails again below
            _copy(_decode_png(contents), row)
    else:
        _copy(_DECODERS[encoding](contents), row)


def _decode_jpg(contents: Contents) -> Row:
    image: Row = simplejpeg.decode_jpeg(contents, colorspace="GRAY")[:, :, 0]
    return image


def _decode_png(contents: Contents) -> Row:
    """Return any PNG as 8-bit gray: alpha is dropped, colors become luma (ITU-R BT.601), 16 bits are scaled."""
    pixels = _png_pixels(contents)
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)  # 65,535 becomes 255, rounded to nearest
    if pixels.ndim == 2:
        return pixels
    if pixels.shape[2] == 2:  # gray and alpha
        return pixels[..., 0]
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels[..., :3])).convert("L"))


def _png_pixels(contents: Contents, out: Row | None = None) -> Row:
    try:
        pixels: Row = imagecodecs.png_decode(contents, out=out)  # type: ignore[arg-type]  # accepts any buffer
    except RuntimeError as error:  # imagecodecs' own errors are not ValueErrors
        raise ValueError(str(error)) from error
    return pixels


def check_npy_header(header: Contents, row: Row) -> None:
    """Check that `header`, the first `NPY_HEADER_BYTES`, is the whole header of an array like `row`.

    Raises:
        ValueError: if it is not such a header, or belongs to an array of another shape.
    """
    header_bytes, shape = _parse_npy(header)
    _check_shape(shape, row)
    if len(header) != header_bytes:
        raise ValueError(f"a header of {header_bytes} bytes, not {len(header)}")


def _decode_npy(contents: Contents) -> Row:
    header_bytes, (height, width) = _parse_npy(contents)
    if len(contents) != header_bytes + height * width:
        raise ValueError(f"{len(contents) - header_bytes} bytes for {height} x {width} pixels")
    return np.frombuffer(contents, np.uint8, offset=header_bytes).reshape(height, width)


def _parse_npy(contents: Contents) -> tuple[int, tuple[int, int]]:
    """Return the length of a version 1.0 header and the shape in it."""
    if contents[:8] != _NPY_MAGIC:
        raise ValueError("not a .npy file of version 1.0")
    header_bytes = 10 + int.from_bytes(contents[8:10], "little")
    return header_bytes, _npy_shape(bytes(contents[:header_bytes]))


@lru_cache(maxsize=64)  # parsing takes ten times as long as copying the pixels, and all images share the header
def _npy_shape(header: bytes) -> tuple[int, int]:
    try:
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(io.BytesIO(header[8:]))
    except Exception as error:  # NumPy raises all kinds of errors for a broken header
        raise ValueError(f"not the header of a .npy file: {error}") from error
    if len(shape) != 2 or fortran_order or dtype != np.uint8:
        raise ValueError(f"{dtype} {shape}, not uint8 (height, width)")
    return shape


def _check_shape(shape: tuple[int, ...], row: Row) -> None:
    if shape != row.shape:
        raise ValueError(f"{shape[0]} x {shape[1]} pixels, not {row.shape[0]} x {row.shape[1]}")


def _copy(image: Row, row: Row) -> None:
    _check_shape(image.shape, row)
    np.copyto(row, image)


_DECODERS: dict[str, Callable[[Contents], Row]] = {"jpg": _decode_jpg, "png": _decode_png, "npy": _decode_npy}
