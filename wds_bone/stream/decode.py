"""Decode one image straight into its row of the batch.

In: verified bytes and their encoding. Out: pixels in a uint8 (H, W) row. Invariant: a row is either filled by an image
of exactly its size, or an error is raised. Every decoder here survives hostile bytes: simplejpeg (libjpeg-turbo) for
JPEG, torchcodec for PNG (torchvision's PNG decoder crashes the process on one flipped bit), NumPy for raw arrays.
"""

import io
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from torchcodec.decoders import decode_png

from wds_bone.images.read import letterbox

Row = NDArray[np.uint8]
Contents = bytes | memoryview
NPY_HEADER_BYTES = 128
"""What NumPy writes before the pixels of any gray image."""
_NPY_MAGIC = b"\x93NUMPY\x01\x00"


def decode_into(contents: Contents, encoding: str, row: Row, *, fit: bool = False) -> None:
    """Decode `contents` into `row`, uint8 (H, W).

    Args:
        contents: an encoded image.
        encoding: jpg, png or npy.
        row: filled in place.
        fit: letterbox an image of another size, instead of refusing it.

    Raises:
        ValueError: not such an image, or of another size.
    """
    if fit:
        _copy(letterbox(_DECODERS[encoding](contents), row.shape[0]), row)
    elif encoding == "jpg":
        image = simplejpeg.decode_jpeg(contents, colorspace="GRAY", buffer=row)  # refuses what is larger than the row
        _check_shape(image.shape[:2], row)
    else:
        _copy(_DECODERS[encoding](contents), row)


def _decode_jpg(contents: Contents) -> Row:
    image: Row = simplejpeg.decode_jpeg(contents, colorspace="GRAY")[:, :, 0]
    return image


def _decode_png(contents: Contents) -> Row:
    try:
        image = decode_png(torch.frombuffer(bytearray(contents), dtype=torch.uint8), mode="GRAY")
    except RuntimeError as error:
        raise ValueError(str(error).splitlines()[0]) from error
    if image.dtype != torch.uint8:
        raise ValueError(f"{image.dtype} pixels, not uint8")
    pixels: Row = image[0].numpy()
    return pixels


def check_npy_header(header: Contents, row: Row) -> None:
    """Raise unless `header`, `NPY_HEADER_BYTES` long, is all that stands before the pixels of an array like `row`.

    Raises:
        ValueError: not such a header, or one of another shape.
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


@lru_cache(maxsize=64)  # parsing the header costs ten times the copy of the pixels, and all images share it
def _npy_shape(header: bytes) -> tuple[int, int]:
    try:
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(io.BytesIO(header[8:]))
    except Exception as error:  # NumPy raises whatever the broken part of the header leads to
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
