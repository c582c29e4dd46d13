"""Turn a film into the images that shards would store of it.

In: a film, and the image formats of the sets that models were trained on.
Out: the stored image of each format.
Invariant: a film loses the same detail as in shards.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wds_bone.errors import ImageError
from wds_bone.images.in_memory import convert_film
from wds_bone.images.read import letterbox, read_image
from wds_bone.shards.encoding import encode_image
from wds_bone.shards.manifest import ImageFormat
from wds_bone.stream.decode import decode_into

FilmSource = str | Path | NDArray[Any] | Image.Image
StoredFilm = tuple[NDArray[np.uint8], ...]
"""A film in each of several formats, uint8 (height, width)."""


def store_film(named: tuple[str, FilmSource], *, formats: Sequence[ImageFormat]) -> StoredFilm:
    """Return a film as a stream would deliver it from shards of each of the formats.

    If the shards store JPEG, the film is encoded and decoded in the same way, so that it loses the same detail.

    Args:
        named: the name of the film for error messages, and the film.
        formats: the formats.

    Raises:
        ImageError: if the film cannot be read, or its size differs and it is unknown how to resize it.
        ConfigError: if it is a DICOM file and the package that reads it is not installed.
    """
    return tuple(_store(*named, image_format) for image_format in formats)


def _store(where: str, film: FilmSource, image_format: ImageFormat) -> NDArray[np.uint8]:
    image = _read(where, film, image_format.stretch)
    if image_format.fit is not None:
        image = letterbox(image, image_format.height)
    stored_shape = (image_format.height, image_format.width)
    if image.shape != stored_shape:
        raise _size_error(where, image, image_format)
    if image_format.encoding != "jpg" or image_format.quality is None:
        return image
    stored = encode_image(image, "jpg", quality=image_format.quality)
    decode_into(stored, "jpg", image := np.empty(stored_shape, np.uint8))
    return image


def _read(where: str, film: FilmSource, stretch: tuple[float, float] | None) -> NDArray[np.uint8]:
    if not isinstance(film, str | Path):
        return convert_film(film, stretch=stretch, where=where)
    if os.path.isdir(film):  # noqa: PTH112  # False for names that no file can have; `Path.is_dir` raises
        do = f"name the films in it, such as {film}/*.png"
        raise ImageError(f"{film}: is a folder", expected="a film", got="a folder", do=do)
    return read_image(film, stretch=stretch)


def _size_error(where: str, image: NDArray[np.uint8], image_format: ImageFormat) -> ImageError:
    return ImageError(
        f"{where}: differs in size from the training images, and their shards do not record how films were resized",
        expected=f"{image_format.width} x {image_format.height} pixels",
        got=f"{image.shape[1]} x {image.shape[0]}",
        do="resize the film in the same way as the training images, or train on shards of `wds-bone make-shards`",
    )
