"""Image file -> upright 8-bit gray, letterboxed: the second stage of the line.

In: PNG, JPEG, TIFF or DICOM. Out: uint8, 0 black and 255 white. Invariant: the aspect ratio is kept, and no two films
of one kind are brightened differently unless `stretch` asks for it.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wds_bone.errors import ConfigError
from wds_bone.images.faults import MAX_PIXELS
from wds_bone.images.files import Kind, find_images, read_contents
from wds_bone.images.film import Film, gray_image
from wds_bone.images.raster import decode_jpeg, decode_png, decode_tiff

__all__ = ["MAX_PIXELS", "find_images", "letterbox", "read_image"]


def read_image(path: str | Path, *, stretch: tuple[float, float] | None = None) -> NDArray[np.uint8]:
    """Return the film in `path` as uint8 (H, W), upright, 0 black and 255 white.

    Colors become luma (ITU-R BT.601), what is transparent turns black, and 9 to 16 bits are scaled from the full
    range of their bits. DICOM goes through its modality LUT and its VOI; `stretch` takes the place of the VOI.

    Args:
        path: PNG, JPEG, TIFF or DICOM; the contents decide, and the name may not contradict them.
        stretch: two percentiles of brightness that become black and white.

    Raises:
        ImageError: the file cannot be read, is damaged, larger than `MAX_PIXELS`, or not one still gray film.
        ConfigError: a DICOM without the package that reads it, or `stretch` is not two rising percentiles.
    """
    path = Path(path)
    contents, kind = read_contents(path)
    film = _decode(contents, kind, with_voi=stretch is None, where=str(path))
    return np.require(gray_image(film, stretch, where=str(path)), requirements=["C", "W"])


def letterbox(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return `image`, uint8 (H, W), scaled to fill uint8 (size, size) without stretching, centered on black.

    Smaller images are scaled up. Downscaling averages areas with Pillow's Hamming kernel: on a film of 1514 x 2044
    pixels it stays within 3 gray levels of exact area averaging, where the box kernel is off by up to 20.
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


def _decode(contents: bytes, kind: Kind, *, with_voi: bool, where: str) -> Film:
    if kind == "DICOM":
        return _decode_dicom(contents, with_voi=with_voi, where=where)
    decoders = {"PNG": decode_png, "JPEG": decode_jpeg, "TIFF": decode_tiff}
    return decoders[kind](contents, where=where)


def _decode_dicom(contents: bytes, *, with_voi: bool, where: str) -> Film:
    try:
        from wds_bone.images.dicom import decode_dicom
    except ImportError as error:
        do = 'install it with `pip install "wds-bone[dicom]"`'
        raise ConfigError(f"{where}: reading DICOM needs the package pydicom", do=do) from error
    return decode_dicom(contents, with_voi=with_voi, where=where)
