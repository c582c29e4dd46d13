"""Film files -> predicted ages: the way that films outside of shards take.

In come paths, out go ages or errors in their order. The invariant: a film is brought to the form in which the training
shards would hold it, by the functions that write and read shards, so it is predicted as if it had been in one.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wds_bone.errors import ImageError, WdsBoneError
from wds_bone.images.read import letterbox, read_image
from wds_bone.labels.read import Gender
from wds_bone.model.predictor import Predictor
from wds_bone.shards.encoding import encode_image
from wds_bone.shards.manifest import ImageFormat
from wds_bone.stream.decode import decode_into

BATCH_SIZE = 8


def predict_films(
    predictor: Predictor, paths: Sequence[Path], *, gender: Gender, device: torch.device
) -> Iterator[tuple[Path, np.float32 | WdsBoneError]]:
    """Yield each film with its age in months, or with the error that says why it has none; in order, lazily.

    Args:
        predictor: on `device`.
        paths: of the films; at most `BATCH_SIZE` of them are in memory.
        gender: of all of them.
        device: where predictions are made.
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

    What JPEG takes away when shards are written is taken away here too.

    Raises:
        ImageError: the film cannot be read, or nobody knows how to bring it to the size of the format.
        ConfigError: a DICOM without the package that reads it.
    """
    film = read_image(path, stretch=image_format.stretch)
    stored_shape = (image_format.height, image_format.width)
    if image_format.fit is not None:
        film = letterbox(film, image_format.height)
    if film.shape != stored_shape:
        raise _other_size(path, film, image_format)
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


def _other_size(path: Path, film: NDArray[np.uint8], image_format: ImageFormat) -> ImageError:
    return ImageError(
        f"{path}: not of the size that the model was trained on, whose shards do not say how films were fitted to it",
        expected=f"{image_format.width} x {image_format.height} pixels",
        got=f"{film.shape[1]} x {film.shape[0]}",
        do="scale the film as the training images were, or train on shards of `python scripts/make_shards.py`",
    )
