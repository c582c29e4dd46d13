"""The samples that all loaders of a benchmark read: encoded films as loose files, and their labels.

In: real films, or none for synthetic hands.
Out: a folder with `<key>.<ext>` and `labels.json`. Each loader packs these files into its own format.
"""

import argparse
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


def add_sample_arguments(
    parser: argparse.ArgumentParser, *, size: int, num_samples: int, encoding: str | None = None
) -> None:
    """Add the options that describe the samples; `--encoding` only if a default is given."""
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="folder of films (default: synthetic hands)")
    parser.add_argument(
        "--size", type=int, default=size, metavar="PIXELS", help="side of the images in pixels (default: %(default)s)"
    )
    if encoding is not None:
        parser.add_argument(
            "--encoding",
            choices=["jpg", "png", "npy"],
            default=encoding,
            help="encoding of the images (default: %(default)s)",
        )
    parser.add_argument(
        "--num-samples", type=int, default=num_samples, metavar="N", help="number of samples (default: %(default)s)"
    )


def write_samples(folder: Path, images: Path | None, *, size: int, encoding: str, num_samples: int) -> None:
    """Write `num_samples` films of size x size pixels as separate files, repeating up to 240 different films."""
    from benchmarks.films import encode_films  # imported here: loaders import this module without wds_bone installed

    folder.mkdir(parents=True)
    labels = {}
    films = islice(cycle(encode_films(images, size=size, encoding=encoding)), num_samples)
    for number, film in enumerate(films):
        name = f"film-{number:07d}.{encoding}"
        (folder / name).write_bytes(film)
        labels[name] = float(number % 2), float(1 + number % 228)
    (folder / LABELS_NAME).write_text(json.dumps(labels))


def read_samples(folder: Path) -> Iterator[Sample]:
    """Yield the samples that `write_samples` wrote, in the same order."""
    for name, (gender, age_months) in json.loads((folder / LABELS_NAME).read_text()).items():
        yield Sample(folder / name, gender, age_months)
