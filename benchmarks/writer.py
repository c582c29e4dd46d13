"""How fast are films written into shards?

Command:   python -m benchmarks.writer [--images FOLDER] [--num-films 200] [--repeat 1] [--size 512] [--rounds 5]
Entrants:  wds_bone, `make_shards --workers 2`: the start of its processes, every check, the indexes, the pictures of
           the overview and every fsync included;
           webdataset.ShardWriter in a loop with Pillow, as everybody writes it: one process;
           litData's `optimize` with the same Pillow work and two workers, their start included;
           MosaicML's MDSWriter in a loop with the same Pillow work: one process, in an environment of its own;
           decode, resize, encode alone: the functions that wds_bone calls, on the same films, in two processes that
           run already, writing nothing: the limit.
Work:      films from a folder to letterboxed gray JPEG q95, with age and gender; page cache warm. Fewer films weigh the
           start of the processes more, and share less evenly between them: the set that --repeat makes should take each
           entrant minutes. What this process imports is not counted, for nobody.
Result:    benchmarks/results/writer.json; a peer that does not run here is left out, and the reason printed.

The processes that the entrants start import this module each time, as they do with any program that starts them. It
therefore imports at its head no more than scripts/make_shards.py does, and the rest where it is used.
"""

import argparse
import contextlib
import csv
import importlib
import io
import json
import multiprocessing.forkserver
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from PIL import Image, ImageOps

from benchmarks.environments import CLASHING, python_of
from benchmarks.targets import Target
from wds_bone.images.read import find_images, letterbox, read_image
from wds_bone.make_shards import main as make_shards
from wds_bone.phantom import draw_hand, synthetic_hands
from wds_bone.shards.encoding import encode_image

CORES, QUALITY, HAND_PIXELS, FILMS_AT_ONCE = 2, 95, 1024, 8
OURS, LOOP, LIMIT = "wds_bone", "ShardWriter loop", "decode, resize, encode"
LITDATA, MOSAIC = "litData", "MDSWriter loop"
NUM_PROCESSES = {OURS: CORES, LOOP: 1, LITDATA: CORES, MOSAIC: 1, LIMIT: CORES}
ROOT = Path(__file__).parent.parent
LEAST_OF_LIMIT, LEAST_OF_LOOP = 0.90, 2.2


@dataclass(frozen=True)
class Film:
    """A film to be written, and its label."""

    path: Path
    gender: str
    age_months: int


@dataclass(frozen=True)
class Work:
    """What every entrant writes: films in a folder of their own, their label table, and the size of the images."""

    folder: Path
    table: Path
    films: tuple[Film, ...]
    size: int


def gather_films(images: Path | None, folder: Path, *, num_films: int, repeat: int) -> tuple[Film, ...]:
    """Copy films (without `images`: draw hands) into `folder`, link each `repeat` times, and return the links."""
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
    for path in islice(find_images([images]).values(), num_films):
        yield Path(shutil.copyfile(path, folder / path.name))


def _draw_films(folder: Path, num_films: int) -> Iterator[Path]:
    for hand in synthetic_hands(num_films, seed=0):
        path = folder / f"{hand.key}.png"
        path.write_bytes(encode_image(draw_hand(hand, HAND_PIXELS), "png", quality=None))
        yield path


def write_table(table: Path, films: Sequence[Film]) -> None:
    """Write the label table of the films, with the columns of RSNA's."""
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "boneage", "male"])
        rows.writerows([film.path.stem, film.age_months, film.gender == "M"] for film in films)


def pillow_jpeg(path: Path, size: int) -> bytes:
    """Return the letterboxed gray JPEG of a film, as one writes it with Pillow; the kernel is that of wds_bone."""
    with Image.open(path) as film:
        image = ImageOps.pad(film.convert("L"), (size, size), Image.Resampling.HAMMING)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def our_jpeg_bytes(path: Path, size: int) -> int:
    """Return the length of the JPEG that wds_bone makes of a film: the whole work of a sample, less the writing."""
    return len(encode_image(letterbox(read_image(path), size), "jpg", quality=QUALITY))


def write_with_make_shards(work: Work, out: Path) -> None:
    """Run the command, with its own processes started anew."""
    # The server from which it forks them outlives a call, and a second one would find everything imported.
    multiprocessing.forkserver._forkserver._stop()
    where = ["--labels", str(work.table), "--images", str(work.folder), "--out", str(out)]
    how = ["--size", str(work.size), "--quality", str(QUALITY), "--workers", str(CORES)]
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = make_shards([*where, *how])
    if code != 0:
        raise SystemExit(said.getvalue())


def write_with_webdataset(work: Work, out: Path) -> None:
    """Write the samples one by one, 1000 to a shard."""
    import webdataset

    with webdataset.ShardWriter(str(out / "films-%06d.tar"), maxcount=1000, verbose=0) as shards:
        for film in work.films:
            label = {"age_months": film.age_months, "gender": film.gender}
            shards.write({"__key__": film.path.stem, "jpg": pillow_jpeg(film.path, work.size), "json": label})


def pillow_sample(film: Film, size: int) -> dict[str, object]:
    """Return what litData and MDSWriter store of a film."""
    return {"image": pillow_jpeg(film.path, size), "age_months": film.age_months, "gender": film.gender}


def write_with_litdata(work: Work, out: Path) -> None:
    """Have litData's workers write chunks of 64 MB."""
    from litdata import optimize

    os.environ["DATA_OPTIMIZER_CACHE_FOLDER"] = str(out / "cache")
    os.environ["DATA_OPTIMIZER_DATA_CACHE_FOLDER"] = str(out / "cache-data")
    make_sample = partial(pillow_sample, size=work.size)
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        films = list(work.films)
        optimize(make_sample, films, str(out / "set"), num_workers=CORES, chunk_bytes="64MB", verbose=False)


def mosaic_per_second(work: Work) -> float:
    """Return the speed of MDSWriter in its own environment, in a process that has imported everything."""
    films = json.dumps([(str(film.path), film.gender, film.age_months) for film in work.films])
    with tempfile.TemporaryDirectory(dir=work.table.parent) as out:
        command = [python_of("mosaic"), "-m", "benchmarks.mosaic_writer", f"{out}/set", str(work.size)]
        done = subprocess.run(command, cwd=ROOT, input=films, check=True, stdout=subprocess.PIPE, text=True)
    return len(work.films) / float(done.stdout.split()[-1])


def images_per_second(write: Callable[[Work, Path], None], work: Work) -> float:
    """Return the speed of writing the whole set into an empty folder, which is removed off the clock."""
    with tempfile.TemporaryDirectory(dir=work.table.parent) as out:
        start = time.perf_counter()
        write(work, Path(out))
        return len(work.films) / (time.perf_counter() - start)


def limit_per_second(pool: ProcessPoolExecutor, work: Work) -> float:
    """Return the speed of making all images in processes that run already."""
    paths = [film.path for film in work.films]
    start = time.perf_counter()
    total_bytes = sum(pool.map(partial(our_jpeg_bytes, size=work.size), paths, chunksize=FILMS_AT_ONCE))
    assert total_bytes
    return len(paths) / (time.perf_counter() - start)


def import_mosaic() -> None:
    """Raise unless the environment of MDSWriter can be made, and works."""
    subprocess.run([python_of("mosaic"), "-c", "import streaming"], check=True)


def find_entrants(work: Work, peers: Sequence[str]) -> dict[str, Callable[[], float]]:
    """Return wds_bone, the loop, and those of the peers that run here; say which do not."""
    entrants: dict[str, Callable[[], float]] = {
        OURS: partial(images_per_second, write_with_make_shards, work),
        LOOP: partial(images_per_second, write_with_webdataset, work),
    }
    runs = {LITDATA: partial(images_per_second, write_with_litdata, work), MOSAIC: partial(mosaic_per_second, work)}
    needs: dict[str, Callable[[], object]] = {
        LITDATA: partial(importlib.import_module, "litdata"),
        MOSAIC: import_mosaic,
    }
    for name in peers:
        try:
            needs[name]()
        except (ImportError, subprocess.CalledProcessError) as error:
            print(f"{name}: left out: {error}")
        else:
            entrants[name] = runs[name]
    return entrants


def summarize(figures: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Return medians per core, and the two ratios that matter."""
    speed = {name: statistics.median(values) for name, values in figures.items()}
    per_core = {name: value / NUM_PROCESSES[name] for name, value in speed.items()}
    ratios = {"of_limit": speed[OURS] / speed[LIMIT], "of_loop": speed[OURS] / speed[LOOP]}
    return {"images_per_second_per_core": per_core, "ratios": ratios}


def writer_targets(ratios: dict[str, float]) -> list[Target]:
    """Return what the ratios should be."""
    of_limit = Target("of decoding, resizing and encoding alone", ratios["of_limit"], least=LEAST_OF_LIMIT)
    return [of_limit, Target("times the ShardWriter loop", ratios["of_loop"], least=LEAST_OF_LOOP)]


def main() -> None:
    """Run the benchmark."""
    from benchmarks.rounds import print_table, print_targets, run_rounds, save_result

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="a folder of films; synthetic hands without it")
    parser.add_argument("--num-films", type=int, default=200, help="different ones, at most")
    parser.add_argument("--repeat", type=int, default=1, help="write each film so many times")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", nargs="*", choices=[LITDATA, MOSAIC], default=[LITDATA, MOSAIC])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        films = gather_films(args.images, folder, num_films=args.num_films, repeat=args.repeat)
        work = Work(folder / "films", folder / "labels.csv", films, args.size)
        write_table(work.table, films)
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(CORES, mp_context=spawn) as pool:
            runs = find_entrants(work, args.peers) | {LIMIT: partial(limit_per_second, pool, work)}
            figures = run_rounds(runs, num_rounds=args.rounds)
    summary = summarize(figures)
    print_table(figures, unit="images per second", reference=LIMIT)
    per_core = summary["images_per_second_per_core"]
    print("per core: " + ", ".join(f"{name} {value:,.1f}" for name, value in per_core.items()))
    print_targets(writer_targets(summary["ratios"]))
    settings = {**vars(args), "images": "real films" if args.images else "synthetic hands", "num_images": len(films)}
    contents = {"settings": settings, "environments": CLASHING, "images_per_second": figures, **summary}
    print(save_result("writer", contents))


if __name__ == "__main__":
    main()
