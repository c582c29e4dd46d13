"""The films and the label table that all writers of `benchmarks.writer` read.

In: a folder of films, or none for synthetic hands.
Out: a `WriterInput`: the films, each linked several times if wanted, in one folder, and their label table.
"""

import csv
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from wds_bone.images.read import find_images
from wds_bone.phantom import draw_hand, synthetic_hands
from wds_bone.shards.encoding import encode_image

HAND_PIXELS = 1024


@dataclass(frozen=True)
class Film:
    """A film to write, and its label."""

    path: Path
    gender: str
    age_months: int


@dataclass(frozen=True)
class WriterInput:
    """What every writer reads: a folder of films, their label table, and the size of the images to write."""

    folder: Path
    table: Path
    films: tuple[Film, ...]
    size: int


def gather_films(images: Path | None, folder: Path, *, num_films: int, repeat: int) -> tuple[Film, ...]:
    """Copy films into `folder` (or draw hands, without `images`), link each `repeat` times, and return the links."""
    originals = folder / "originals"
    originals.mkdir(parents=True)
    copies = list(_copy_films(images, originals, num_films) if images else _draw_films(originals, num_films))
    (folder / "films").mkdir()
    paths = []
    for number in range(repeat * len(copies)):
        copy = copies[number % len(copies)]
        paths.append(folder / "films" / f"film-{number:06d}{copy.suffix}")
        os.link(copy, paths[-1])
    return tuple(Film(path, "FM"[number % 2], 1 + number % 228) for number, path in enumerate(paths))


def _copy_films(images: Path, folder: Path, num_films: int) -> Iterator[Path]:
    for path in islice(find_images([images]).images, num_films):
        yield Path(shutil.copyfile(path, folder / path.name))


def _draw_films(folder: Path, num_films: int) -> Iterator[Path]:
    for hand in synthetic_hands(num_films, seed=0):
        path = folder / f"{hand.key}.png"
        path.write_bytes(encode_image(draw_hand(hand, HAND_PIXELS), "png", quality=None))
        yield path


def write_table(table: Path, films: Sequence[Film]) -> None:
    """Write the label table of the films, with RSNA's column names."""
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "boneage", "male"])
        rows.writerows([film.path.stem, film.age_months, film.gender == "M"] for film in films)
