"""Read films that are arrays or Pillow images, as if they had been read from their files.

In: an array or an image.
Out: uint8 (H, W), 0 black and 255 white.
Invariant: a film is converted as the same pixels in a PNG file are, with the same refusals.
"""

from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from wds_bone.errors import ImageError
from wds_bone.images.faults import check_pixels_are_square, check_size, film_error, frame_count_error
from wds_bone.images.film import Film, gray_image
from wds_bone.images.raster import decode_picture, tiff_bits

_COLORS = (3, 4)
_picture_lock = Lock()  # Pillow reads a file when its pixels are first used, which must not happen in two threads


def convert_film(
    film: NDArray[Any] | Image.Image, *, stretch: tuple[float, float] | None = None, where: str
) -> NDArray[np.uint8]:
    """Return the film as uint8 (H, W), upright, 0 black and 255 white; see `read_image`.

    Args:
        film: uint8 or uint16 (H, W), 0 black and the greatest number of the dtype white; uint8 (H, W, 3 or 4) in RGB or
            RGBA; or a Pillow image.
        stretch: the two percentiles of brightness that become black and white.
        where: the name of the film, for error messages.

    Raises:
        ImageError: if it is of another kind, damaged or too large, or would be almost uniformly gray.
    """
    if isinstance(film, np.ndarray):
        stored = film_of_array(film, where=where)
    elif isinstance(film, Image.Image):
        stored = film_of_picture(film, where=where)
    else:
        do = "use one of these; np.asarray converts a tensor on the CPU"
        raise film_error(where, "not a film", "a path, an array or a Pillow image", type(film).__name__, do=do)
    return np.require(gray_image(stored, stretch, where=where), requirements=["C", "W"])


def film_of_array(array: NDArray[Any], *, where: str) -> Film:
    """Return the film in an array.

    Raises:
        ImageError: if the array has another shape or dtype.
    """
    is_color = array.ndim == 3 and array.shape[2] in _COLORS and array.dtype == np.uint8
    is_gray = array.ndim == 2 and array.dtype.kind == "u" and array.dtype.itemsize <= 2
    if not (is_color or is_gray):
        raise film_error(
            where,
            "the array is not a film",
            "uint8 or uint16 (H, W), or uint8 (H, W, 3)",
            f"{array.dtype} {array.shape}",
            do="convert it, so that 0 is black and the greatest number of the dtype is white",
        )
    check_size(*array.shape[:2], where=where)
    if is_color:
        return film_of_picture(Image.fromarray(array), where=where)
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return Film(native, black=0, white=np.iinfo(native.dtype).max, range_is_stated=native.dtype == np.uint8)


def film_of_picture(picture: Image.Image, *, where: str) -> Film:
    """Return the film in a Pillow image.

    Raises:
        ImageError: if it is damaged, too large or animated, in another color format, or has pixels that are not square.
    """
    check_size(picture.height, picture.width, where=where)
    check_pixels_are_square("its metadata", *_density(picture), where=where)
    with _picture_lock:
        _load(picture, where)
        num_bits = 16 if picture.mode.startswith("I;16") else 8
        if isinstance(picture, TiffImageFile):
            num_bits = tiff_bits(picture)
        return decode_picture(picture, b"", num_bits=num_bits, where=where)


def _density(picture: Image.Image) -> tuple[float, float]:
    names = ("aspect", "jfif_density", "dpi")
    first, second = next((picture.info[name] for name in names if picture.info.get(name)), (1, 1))
    return float(first), float(second)  # those of a TIFF are fractions that cannot be subtracted


def _load(picture: Image.Image, where: str) -> None:
    try:
        num_frames = getattr(picture, "n_frames", 1)
        _read_pixels(picture)
    except Exception as error:  # Pillow raises arbitrary exceptions for damaged files
        raise ImageError(
            f"{where}: the image is damaged",
            expected="an intact file",
            got=f"{type(error).__name__}: {error}",
            do="fetch or export its file again",
        ) from error
    if num_frames > 1:
        raise frame_count_error(where, f"{num_frames:,} frames")


def _read_pixels(picture: Image.Image) -> None:
    if not isinstance(picture, TiffImageFile):
        picture.load()
        return
    # Pillow maps a file whose name it knows into memory, and then exchanges width and height of a turned image.
    name, picture.filename = picture.filename, ""
    try:
        picture.load()
    finally:
        picture.filename = name
