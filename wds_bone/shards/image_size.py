"""Read the height and width of an encoded image from its first bytes, without decoding it.

Sources: ITU-T T.81 (JPEG, through simplejpeg), the PNG specification's IHDR chunk, NumPy's .npy format.
"""

import io
import struct
from collections.abc import Callable

import numpy as np
import simplejpeg

from wds_bone.errors import ShardError

ENCODING_OF_EXTENSION = {"jpg": "jpg", "jpeg": "jpg", "png": "png", "npy": "npy"}


def image_size(contents: bytes, encoding: str, place: str) -> tuple[int, int]:
    """Return (height, width) in pixels of an image encoded as `encoding` (jpg, png or npy).

    Raises:
        ShardError: the contents are not such an image; `place` names shard and sample.
    """
    try:
        return _READERS[encoding](contents)
    except (ValueError, struct.error, EOFError) as error:
        raise ShardError(
            f"{place}: the image cannot be read",
            expected={"npy": "a uint8 array (height, width) in a .npy file"}.get(encoding, f"a {encoding} image"),
            got=f"{len(contents):,} bytes: {error}",
            do="build the shard again from intact images",
        ) from error


def _jpg_size(contents: bytes) -> tuple[int, int]:
    height, width, _, _ = simplejpeg.decode_jpeg_header(contents)
    return height, width


def _png_size(contents: bytes) -> tuple[int, int]:
    if contents[:8] != b"\x89PNG\r\n\x1a\n" or contents[12:16] != b"IHDR":
        raise ValueError("no PNG signature")
    width, height = struct.unpack(">II", contents[16:24])
    return height, width


def _npy_size(contents: bytes) -> tuple[int, int]:
    stream = io.BytesIO(contents)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("not a .npy file of version 1.0")
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
    if len(shape) != 2 or fortran_order or dtype != np.uint8:
        raise ValueError(f"{dtype} {shape}")
    return shape[0], shape[1]


_READERS: dict[str, Callable[[bytes], tuple[int, int]]] = {"jpg": _jpg_size, "png": _png_size, "npy": _npy_size}
