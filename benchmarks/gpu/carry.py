"""Collect the packages and the films that a GPU machine without a network needs.

Command:   python -m benchmarks.gpu.carry [--out build/carried] [--labels labels.csv --images FOLDER] [--size 512]
Method:    wheels for Python 3.12 on x86-64 Linux of what this project needs and the machine lacks, from the package
           index of pip; films in a random order, letterboxed to JPEG q95, until `--film-megabytes` are reached.
Result:    <out>/wheels and, with `--labels`, <out>/films with `labels.csv`; at most 60 MB together.
"""

import argparse
import csv
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from benchmarks.gpu.limited import ROOT
from benchmarks.gpu.requirements import project_requirements

LABELS_NAME = "labels.csv"
MAX_MEGABYTES, MAX_FILM_MEGABYTES = 60.0, 25.0
ON_THE_MACHINE = ("torch", "torchvision", "numpy", "pillow", "matplotlib", "tqdm")
"""What a machine for PyTorch has already, with pytest, its plugins, hypothesis and PyYAML, which webdataset needs.

`python -m benchmarks.gpu` checks the versions there.
"""
_GLIBC = ("2_28", "2_27", "2_24", "2_17", "2_12", "2_5")
_PLATFORMS = [f"manylinux_{version}_x86_64" for version in _GLIBC] + ["manylinux2014_x86_64", "manylinux1_x86_64"]


def missing_packages() -> list[str]:
    """Return the requirements of this project that a machine for PyTorch lacks."""
    wanted = project_requirements()
    return [str(requirement) for requirement in wanted if requirement.name.lower() not in ON_THE_MACHINE]


def collect_wheels(folder: Path, packages: list[str]) -> None:
    """Download the wheels of these packages, without what they require."""
    platforms = [word for platform in _PLATFORMS for word in ("--platform", platform)]
    target = ["--python-version", "3.12", "--implementation", "cp", "--only-binary=:all:", "--no-deps", *platforms]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(folder), *target, *packages]
    subprocess.run(command, check=True)


def collect_films(folder: Path, labels: Path, images: Path, *, size: int, megabytes: float) -> int:
    """Write films and their label table until they reach a number of megabytes; return how many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    left, rows = megabytes * 1e6, []
    for key, gender, age_months, film in _films(labels, images, size=size):
        left -= len(film)
        if left < 0:
            break
        (folder / f"{key}.jpg").write_bytes(film)
        rows.append((key, age_months, gender == "M"))
    with (folder / LABELS_NAME).open("w", newline="") as file:
        csv.writer(file).writerows([("id", "boneage", "male"), *rows])
    return len(rows)


def _films(labels: Path, images: Path, *, size: int) -> Iterator[tuple[str, str, float, bytes]]:
    """Yield the key, gender, age in months and encoded picture of films in a random order, always the same one."""
    from wds_bone.images.read import find_images, letterbox, read_image  # the parts import this module without them
    from wds_bone.labels.read import read_labels
    from wds_bone.shards.encoding import encode_image

    paths = {Path(str(path)).stem: path for path in find_images([images]).images}
    known = [label for label in read_labels(str(labels)) if label.key in paths]
    random.Random(0).shuffle(known)
    for label in known:
        film = encode_image(letterbox(read_image(paths[label.key]), size), "jpg", quality=95)
        yield label.key, label.gender, label.age_months, film


def stored_size(folder: Path) -> int:
    """Return the side in pixels of the films in a folder that `collect_films` wrote."""
    with Image.open(next(folder.glob("*.jpg"))) as image:
        return image.width


def megabytes_in(folder: Path) -> float:
    """Return the size of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def parse_args() -> argparse.Namespace:
    """Return the command-line options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "carried", metavar="FOLDER", help="new folder")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="label table of the films (default: no films)")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="folder of the films")
    parser.add_argument("--size", type=int, default=512, metavar="PIXELS", help="side of the films (default: 512)")
    parser.add_argument(
        "--film-megabytes", type=float, default=MAX_FILM_MEGABYTES, metavar="N", help="size of all films together"
    )
    parser.add_argument("--also", nargs="+", default=[], metavar="PACKAGE", help="further packages, such as torchcodec")
    args = parser.parse_args()
    if (args.labels is None) != (args.images is None):
        parser.error("--labels and --images must be given together")
    if args.film_megabytes > MAX_FILM_MEGABYTES:
        parser.error(f"--film-megabytes {args.film_megabytes:g} is more than {MAX_FILM_MEGABYTES:g}")
    if args.out.exists():
        parser.error(f"--out {args.out}: already exists; remove it, or use another folder")
    return args


def collect(args: argparse.Namespace) -> None:
    """Collect what the options ask for, and print the sizes; an error if it is too large."""
    collect_wheels(args.out / "wheels", [*missing_packages(), *args.also])
    if args.labels is not None:
        films = args.out / "films"
        number = collect_films(films, args.labels, args.images, size=args.size, megabytes=args.film_megabytes)
        print(f"{films}: {number:,} films of {args.size} px, {megabytes_in(films):.1f} MB")
    total = megabytes_in(args.out)
    print(f"{args.out}: {total:.1f} of {MAX_MEGABYTES:g} MB")
    if total > MAX_MEGABYTES:
        raise SystemExit("error: too large; use a smaller --film-megabytes or --size, or fewer packages")


def main() -> None:
    """Collect; after an error, the folder does not exist, so that the command can be repeated."""
    args = parse_args()
    try:
        collect(args)
    except BaseException:
        shutil.rmtree(args.out, ignore_errors=True)
        raise


if __name__ == "__main__":
    main()
