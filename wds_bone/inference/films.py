"""Predict the ages of films.

In: films, as files or in memory, and the gender of each child.
Out: an age or an error for each film, in order.
Invariant: a film is converted by the functions that write and read shards, and predicted in batches of one shape, so
its prediction is the same as for that film in a shard, and the same whatever films are predicted with it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wds_bone.errors import WdsBoneError
from wds_bone.images.read_ahead import read_ahead
from wds_bone.inference.ensemble import Ensemble
from wds_bone.inference.predictions import refuse_not_finite
from wds_bone.inference.stored_film import FilmSource, StoredFilm, store_film
from wds_bone.labels.values import Gender
from wds_bone.stream.load import BATCHES_AHEAD
from wds_bone.stream.settings import available_cores

BATCH_SIZE = 4
"""Films per forward pass. From 128 pixels on, larger batches are hardly faster, and a single film takes as long."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The prediction for a film.

    Attributes:
        path: the file; `films[NUMBER]` for a film in memory.
        months: the age in months, always finite.
        interval: the lower and the upper limit of the age in months; None without calibration.
    """

    path: Path
    months: np.float32
    interval: tuple[np.float32, np.float32] | None


def predict_films(
    ensemble: Ensemble,
    films: Sequence[FilmSource],
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
        films: paths, arrays or Pillow images; see `convert_film`.
        genders: the gender of each child.
        device: the device to predict on.
        threads: number of threads that read films; None for one per core.
        batch_size: films per forward pass; affects only the rounding. The last batch is filled up.

    Raises:
        ValueError: if there are not as many genders as films.
        WdsBoneError: if a prediction is not finite.
    """
    named = iter(list(zip(_names(films), genders, strict=True)))  # a list, so that their numbers are compared at once
    store = partial(store_film, formats=ensemble.image_formats)
    threads = min(available_cores() if threads is None else threads, max(1, len(films)))
    sources = zip(_names(films), films, strict=True)
    stored = read_ahead(sources, store, threads=threads, ahead=max(threads, BATCHES_AHEAD * batch_size))
    while part := list(islice(stored, batch_size)):
        names, part_genders = zip(*islice(named, batch_size), strict=False)
        months, intervals = _predict_batch(ensemble, part, part_genders, batch_size, device)
        for row, (film, name) in enumerate(zip(part, names, strict=True)):
            if isinstance(film, WdsBoneError):
                yield film
                continue
            refuse_not_finite(months[row : row + 1], [name], where=ensemble.paths)
            interval = None if intervals is None else (intervals[row, 0], intervals[row, 1])
            yield Outcome(Path(name), months[row], interval)


def _names(films: Sequence[FilmSource]) -> Iterator[str]:
    """Yield the path of each film, or its position among the films."""
    for number, film in enumerate(films):
        yield str(film) if isinstance(film, str | Path) else f"films[{number}]"


def _predict_batch(
    ensemble: Ensemble,
    films: Sequence[StoredFilm | WdsBoneError],
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
