"""The samples that every entrant of a benchmark reads: encoded films as loose files, with their labels beside them.

In: real films, or nothing. Out: a folder `<key>.<ext>` + `labels.json`. Each entrant packs them into its own format.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

LABELS_NAME = "labels.json"


@dataclass(frozen=True)
class Sample:
    """One encoded film with its labels; gender is 1 for male, 0 for female."""

    path: Path
    gender: float
    age_months: float


def write_samples(folder: Path, images: Path | None, *, size: int, encoding: str, num_samples: int) -> None:
    """Write `num_samples` films of size x size pixels, up to 240 different ones repeated, as files of their own."""
    from benchmarks.films import encode_films  # not at the top: entrants read where wds_bone need not be installed

    folder.mkdir(parents=True)
    labels = {}
    films = islice(cycle(encode_films(images, size=size, encoding=encoding)), num_samples)
    for number, film in enumerate(films):
        name = f"film-{number:07d}.{encoding}"
        (folder / name).write_bytes(film)
        labels[name] = float(number % 2), float(1 + number % 228)
    (folder / LABELS_NAME).write_text(json.dumps(labels))


def read_samples(folder: Path) -> Iterator[Sample]:
    """Yield the samples that `write_samples` wrote, in its order."""
    for name, (gender, age_months) in json.loads((folder / LABELS_NAME).read_text()).items():
        yield Sample(folder / name, gender, age_months)
