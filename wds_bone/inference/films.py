"""Predict the ages of film files.

In: paths.
Out: an age or an error for each path, in order.
Invariant: a film is converted by the functions that write and read shards, so the prediction is the same as for that
film in a shard.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wds_bone.errors import ImageError, WdsBoneError
from wds_bone.images.read import letterbox, read_image
from wds_bone.inference.predictor import Predictor
from wds_bone.labels.read import Gender
from wds_bone.shards.encoding import encode_image
from wds_bone.shards.manifest import ImageFormat
from wds_bone.stream.decode import decode_into

BATCH_SIZE = 8


def predict_films(
    predictor: Predictor, paths: Sequence[Path], *, gender: Gender, device: torch.device
) -> Iterator[tuple[Path, np.float32 | WdsBoneError]]:
    """Yield each path with the age in months, or with the error that prevented a prediction; in order, lazily.

    Args:
        predictor: the model, on `device`.
        paths: the film files; at most `BATCH_SIZE` of them are in memory at a time.
        gender: the gender of all children.
        device: the device to predict on.
    """
    for start in range(0, len(paths), BATCH_SIZE):
        part = paths[start : start + BATCH_SIZE]
        films = [_read_or_error(path, predictor.preprocessing.image_format) for path in part]
        readable = [film for film in films if not isinstance(film, WdsBoneError)]
        months = iter(_predict(predictor, readable, gender, device))
        for path, film in zip(part, films, strict=True):
            yield path, film if isinstance(film, WdsBoneError) else next(months)


def read_film(path: Path, image_format: ImageFormat) -> NDArray[np.uint8]:
    """Return the film as a stream would deliver it from shards of that format, uint8 (height, width).

    If the shards store JPEG, the film is encoded and decoded in the same way, so that it loses the same detail.

    Raises:
        ImageError: if the film cannot be read, or its size differs and it is unknown how to resize it.
        ConfigError: if it is a DICOM file and the package that reads it is not installed.
    """
    if os.path.isdir(path):  # noqa: PTH112  # False for names that no file can have; `Path.is_dir` raises
        raise ImageError(
            f"{path}: is a folder", expected="a film", got="a folder", do=f"name the films in it, such as {path}/*.png"
        )
    film = read_image(path, stretch=image_format.stretch)
    stored_shape = (image_format.height, image_format.width)
    if image_format.fit is not None:
        film = letterbox(film, image_format.height)
    if film.shape != stored_shape:
        raise _size_error(path, film, image_format)
    if image_format.encoding != "jpg" or image_format.quality is None:
        return film
    stored = encode_image(film, "jpg", quality=image_format.quality)
    decode_into(stored, "jpg", film := np.empty(stored_shape, np.uint8))
    return film


def _read_or_error(path: Path, image_format: ImageFormat) -> NDArray[np.uint8] | WdsBoneError:
    try:
        return read_film(path, image_format)
    except WdsBoneError as error:
        return error


def _predict(
    predictor: Predictor, films: Sequence[NDArray[np.uint8]], gender: Gender, device: torch.device
) -> NDArray[np.float32]:
    if not films:
        return np.empty(0, np.float32)
    image = torch.from_numpy(np.stack(films)[:, None]).to(device)
    months = predictor.predict_months(image, torch.full((len(films),), float(gender == "M"), device=device))
    return months.cpu().numpy()


def _size_error(path: Path, film: NDArray[np.uint8], image_format: ImageFormat) -> ImageError:
    return ImageError(
        f"{path}: differs in size from the training images, and their shards do not record how films were resized",
        expected=f"{image_format.width} x {image_format.height} pixels",
        got=f"{film.shape[1]} x {film.shape[0]}",
        do="resize the film in the same way as the training images, or train on shards of `wds-bone make-shards`",
    )
