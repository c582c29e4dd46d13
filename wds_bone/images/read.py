"""Read image files as upright 8-bit gray, and letterbox them.

In: a PNG, JPEG, TIFF or DICOM file.
Out: uint8 (H, W), 0 black and 255 white.
Invariant: the aspect ratio is kept, and the contrast depends on the values of a film only if `stretch` is set.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wds_bone.errors import ConfigError
from wds_bone.images.contents import FileFormat, read_contents
from wds_bone.images.faults import MAX_PIXELS, damage_error
from wds_bone.images.files import ImageFiles, find_images
from wds_bone.images.film import Film, gray_image
from wds_bone.images.raster import decode_jpeg, decode_png, decode_tiff

__all__ = ["MAX_PIXELS", "ImageFiles", "decode_image", "find_images", "letterbox", "read_contents", "read_image"]


def read_image(path: str | Path, *, stretch: tuple[float, float] | None = None) -> NDArray[np.uint8]:
    """Return the film in `path` as uint8 (H, W), upright, 0 black and 255 white.

    Colors are converted to luma (ITU-R BT.601), transparent pixels become black, and 9 to 16 bits are scaled from the
    full range of their bits. The modality LUT and the VOI of a DICOM file are applied, and its padding becomes black;
    `stretch` replaces the VOI.

    Args:
        path: a PNG, JPEG, TIFF or DICOM file, recognized by its contents, which its suffix must not contradict.
        stretch: the two percentiles of brightness that become black and white; None takes the range from the file.

    Raises:
        ImageError: if the file cannot be read, is damaged, has more than `MAX_PIXELS`, is not a single gray film with
            square pixels, or would be almost uniformly gray.
        ConfigError: if the file is DICOM and pydicom is not installed, or if `stretch` is out of range.
    """
    return decode_image(*read_contents(Path(path)), stretch=stretch, where=str(path))


def decode_image(
    contents: bytes, file_format: FileFormat, *, stretch: tuple[float, float] | None, where: str
) -> NDArray[np.uint8]:
    """Return the film in the contents of a file as `read_image` does; `where` names the file in errors."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # decoders warn about what they can still read, without naming the file
            film = _decode(contents, file_format, with_voi=stretch is None, where=where)
            return np.require(gray_image(film, stretch, where=where), requirements=["C", "W"])
    except MemoryError as error:
        raise damage_error(where, contents, error) from error


def letterbox(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return `image`, uint8 (H, W), scaled to fit uint8 (size, size) with its aspect ratio, centered on black.

    Smaller images are scaled up. Larger ones are scaled down with Pillow's Hamming kernel: on a film of 1514 x 2044
    pixels it differs from exact area averaging by at most 3 gray levels, the box kernel by up to 20.
    """
    height, width = image.shape
    scale = size / max(height, width)
    height, width = max(1, round(height * scale)), max(1, round(width * scale))
    kernel = Image.Resampling.HAMMING if scale < 1 else Image.Resampling.BILINEAR
    top, left = (size - height) // 2, (size - width) // 2
    framed = np.zeros((size, size), np.uint8)
    scaled = np.asarray(Image.fromarray(image).resize((width, height), kernel))
    framed[top : top + height, left : left + width] = scaled
    return framed


@contextmanager
def pydicom_needed(where: str) -> Iterator[None]:
    """Convert the failure of an import inside the block to a `ConfigError` that says what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        do = "run `pip install pydicom pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg`"
        raise ConfigError(f"{where}: reading DICOM requires the package pydicom", do=do) from error


def _decode(contents: bytes, file_format: FileFormat, *, with_voi: bool, where: str) -> Film:
    if file_format == "DICOM":
        return _decode_dicom(contents, with_voi=with_voi, where=where)
    decoders = {"PNG": decode_png, "JPEG": decode_jpeg, "TIFF": decode_tiff}
    return decoders[file_format](contents, where=where)


def _decode_dicom(contents: bytes, *, with_voi: bool, where: str) -> Film:
    with pydicom_needed(where):
        from wds_bone.images.dicom import decode_dicom
    return decode_dicom(contents, with_voi=with_voi, where=where)
