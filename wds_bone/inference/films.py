"""Predict the ages of film files.

In: paths, and the gender of each child.
Out: an age or an error for each film, in order.
Invariant: a film is converted by the functions that write and read shards, and predicted in batches of one shape, so
its prediction is the same as for that film in a shard, and the same whatever films are predicted with it.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wds_bone.errors import ImageError, WdsBoneError
from wds_bone.images.read import letterbox, read_image
from wds_bone.inference.ensemble import Ensemble
from wds_bone.inference.predictions import refuse_not_finite
from wds_bone.inference.read_ahead import read_ahead
from wds_bone.labels.values import Gender
from wds_bone.shards.encoding import encode_image
from wds_bone.shards.manifest import ImageFormat
from wds_bone.stream.decode import decode_into
from wds_bone.stream.settings import available_cores

BATCH_SIZE = 4
"""Films per forward pass. From 128 pixels on, larger batches are hardly faster, and a single film takes as long."""
BATCHES_AHEAD = 2
_Stored = tuple[NDArray[np.uint8], ...]  # a film in each of the formats of an ensemble


@dataclass(frozen=True, slots=True)
class Outcome:
    """The prediction for a film.

    Attributes:
        path: the file.
        months: the age in months, always finite.
        interval: the lower and the upper limit of the age in months; None without calibration.
    """

    path: Path
    months: np.float32
    interval: tuple[np.float32, np.float32] | None


def predict_films(
    ensemble: Ensemble,
    films: Sequence[Path],
    genders: Sequence[Gender],
    *,
    device: torch.device,
    threads: int | None,
    batch_size: int = BATCH_SIZE,
) -> Iterator[Outcome | WdsBoneError]:
    """Yield the prediction for each film, or the error that prevented it; in order, lazily.

    Films are read and decoded by threads while the model predicts those before them. At most `threads` films are in
    memory at full size, and two batches at their stored size.

    Args:
        ensemble: the models, on `device`.
        films: the film files.
        genders: the gender of each child.
        device: the device to predict on.
        threads: number of threads that read films; None for one per core.
        batch_size: films per forward pass; affects only the rounding. The last batch is filled up.

    Raises:
        WdsBoneError: if a prediction is not finite.
    """
    genders_and_films = zip(genders, films, strict=True)
    prepare = partial(read_film_as, formats=ensemble.image_formats)
    threads = min(available_cores() if threads is None else threads, max(1, len(films)))
    stored = read_ahead(films, prepare, threads=threads, ahead=max(threads, BATCHES_AHEAD * batch_size))
    while part := list(islice(stored, batch_size)):
        rows = list(islice(genders_and_films, batch_size))
        months, intervals = _predict_batch(ensemble, part, [gender for gender, _ in rows], batch_size, device)
        for row, (film, (_, path)) in enumerate(zip(part, rows, strict=False)):
            if isinstance(film, WdsBoneError):
                yield film
                continue
            refuse_not_finite(months[row : row + 1], [str(path)], where=ensemble.paths)
            yield Outcome(path, months[row], None if intervals is None else (intervals[row, 0], intervals[row, 1]))


def read_film_as(path: Path, *, formats: Sequence[ImageFormat]) -> _Stored:
    """Return the film in each of the formats, as `read_film` does."""
    return tuple(read_film(path, image_format) for image_format in formats)


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


def _predict_batch(
    ensemble: Ensemble,
    films: Sequence[_Stored | WdsBoneError],
    genders: Sequence[Gender],
    batch_size: int,
    device: torch.device,
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Return the ages and the intervals of a batch, whose other rows are black; those of failed films mean nothing."""
    gender = np.zeros(batch_size, np.float32)
    gender[: len(genders)] = [name == "M" for name in genders]
    images = {
        image_format: np.zeros((batch_size, 1, image_format.height, image_format.width), np.uint8)
        for image_format in ensemble.image_formats
    }
    for row, film in enumerate(films):
        if not isinstance(film, WdsBoneError):
            for image, pixels in zip(images.values(), film, strict=True):
                image[row, 0] = pixels
    on_device = {image_format: torch.from_numpy(image).to(device) for image_format, image in images.items()}
    member_months = ensemble.predict_members(on_device, torch.from_numpy(gender).to(device))
    return ensemble.combine(member_months.cpu().numpy(), gender)


def _size_error(path: Path, film: NDArray[np.uint8], image_format: ImageFormat) -> ImageError:
    return ImageError(
        f"{path}: differs in size from the training images, and their shards do not record how films were resized",
        expected=f"{image_format.width} x {image_format.height} pixels",
        got=f"{film.shape[1]} x {film.shape[0]}",
        do="resize the film in the same way as the training images, or train on shards of `wds-bone make-shards`",
    )
