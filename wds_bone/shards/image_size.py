"""Read the height and width of an encoded image from its first bytes, without decoding it.

In: the contents of an image member.
Out: its size, or an error that names the shard and the sample.
Invariant: a returned size has 1 to `MAX_PIXELS` pixels, so that a forged header cannot exhaust the memory.

Sources: ITU-T T.81 (JPEG, through simplejpeg), the IHDR chunk of the PNG specification, NumPy's .npy format.
"""

import io
import struct
from collections.abc import Callable, Iterable

import numpy as np
import simplejpeg

from wds_bone.errors import ShardError
from wds_bone.images.faults import check_size
from wds_bone.storage.location import Location

ENCODING_OF_EXTENSION = {"jpg": "jpg", "jpeg": "jpg", "png": "png", "npy": "npy"}


def image_size(contents: bytes, encoding: str, where: str) -> tuple[int, int]:
    """Return the (height, width) in pixels of an image encoded as `encoding` (jpg, png or npy).

    Raises:
        ShardError: if the contents are not such an image.
        ImageError: if the image claims to have no pixels or more than `MAX_PIXELS`.
    """
    try:
        height, width = _READERS[encoding](contents)
    except Exception as error:  # a broken .npy header raises many types
        raise ShardError(
            f"{where}: the image cannot be read",
            expected={"npy": "a .npy file with a uint8 array (height, width)"}.get(encoding, f"a {encoding} image"),
            got=f"{len(contents):,} bytes: {error}",
            do="rebuild the shard from intact images",
        ) from error
    check_size(height, width, where=where)
    return height, width


def mixed_sizes_error(where: Location | str, sizes: Iterable[tuple[int, int]]) -> ShardError:
    """Return the error for shards whose images do not share one size (height, width)."""
    found = sorted(sizes)
    shown = ", ".join(f"{height} x {width}" for height, width in found[:4]) + (", ..." if len(found) > 4 else "")
    return ShardError(
        f"{where}: the images have {len(found):,} different sizes",
        expected="one size",
        got=shown,
        do="make the sets with the same --size; or letterbox the shards of another tool when they are read: "
        "`wds-bone index --letterbox PIXELS FOLDER`",
    )


def _jpg_size(contents: bytes) -> tuple[int, int]:
    height, width, _, _ = simplejpeg.decode_jpeg_header(contents)
    return height, width


def png_size(contents: bytes | memoryview) -> tuple[int, int]:
    """Return the (height, width) that a PNG states; raise `ValueError` if it is none."""
    if contents[:8] != b"\x89PNG\r\n\x1a\n" or contents[12:16] != b"IHDR":
        raise ValueError("the PNG signature is missing")
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


_READERS: dict[str, Callable[[bytes], tuple[int, int]]] = {"jpg": _jpg_size, "png": png_size, "npy": _npy_size}
