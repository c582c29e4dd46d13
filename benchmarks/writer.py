"""How fast are films written into shards?

Command:   python -m benchmarks.writer [--images FOLDER] [--num-films 200] [--repeat 1] [--size 512] [--rounds 5]
Compared:  `wds-bone make-shards --workers 2`, including starting its processes, all checks, the indexes, the overview
           pictures and every fsync;
           webdataset.ShardWriter in the usual loop with Pillow, in one process;
           litData's `optimize` with the same Pillow work and two workers, including their start;
           MosaicML's MDSWriter in a loop with the same Pillow work, in one process with a separate environment;
           the upper limit: only decode, resize and encode with the functions that wds_bone calls, on the same films,
           in two processes that are already running, writing nothing.
Method:    films from a folder to letterboxed gray JPEG q95, with age and gender; warm page cache. With few films, the
           start of the processes weighs more and the work is shared less evenly, so choose --repeat such that each
           writer takes minutes. The imports of this process are not counted for any writer.
Machine:   Linux, two CPU cores.
Result:    benchmarks/results/writer.json. A peer that does not run on this machine is left out, and the reason printed.

The processes that the writers start import this module each time, as they would with any main program. It therefore
imports no more at the top than scripts/make_shards.py does, and everything else where it is used.
"""

import argparse
import contextlib
import importlib
import io
import json
import multiprocessing.forkserver
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from PIL import Image, ImageOps

from benchmarks.environments import CONFLICTING, interpreter_for
from benchmarks.targets import Target
from benchmarks.writer_inputs import Film, WriterInput, gather_films, write_table
from wds_bone.images.read import letterbox, read_image
from wds_bone.make_shards import main as make_shards
from wds_bone.shards.encoding import encode_image

CORES, QUALITY, FILMS_PER_TASK = 2, 95, 8
OURS, LOOP, LIMIT = "wds_bone", "ShardWriter loop", "decode, resize, encode"
LITDATA, MOSAIC = "litData", "MDSWriter loop"
NUM_PROCESSES = {OURS: CORES, LOOP: 1, LITDATA: CORES, MOSAIC: 1, LIMIT: CORES}
ROOT = Path(__file__).parent.parent
MIN_FRACTION_OF_LIMIT, MIN_RATIO_TO_LOOP = 0.90, 2.2


def pillow_jpeg(path: Path, size: int) -> bytes:
    """Return the letterboxed gray JPEG of a film, made with Pillow and the same resampling kernel as wds_bone."""
    with Image.open(path) as film:
        image = ImageOps.pad(film.convert("L"), (size, size), Image.Resampling.HAMMING)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def our_jpeg_bytes(path: Path, size: int) -> int:
    """Return the length of the JPEG that wds_bone makes of a film: all the work on a sample except writing it."""
    return len(encode_image(letterbox(read_image(path), size), "jpg", quality=QUALITY))


def write_with_make_shards(inputs: WriterInput, out: Path) -> None:
    """Run `wds-bone make-shards` with newly started processes."""
    # The fork server outlives a call; a second call would find its modules already imported.
    multiprocessing.forkserver._forkserver._stop()
    paths = ["--labels", str(inputs.table), "--images", str(inputs.folder), "--out", str(out)]
    settings = ["--size", str(inputs.size), "--quality", str(QUALITY), "--workers", str(CORES)]
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = make_shards([*paths, *settings])
    if code != 0:
        raise SystemExit(output.getvalue())


def write_with_webdataset(inputs: WriterInput, out: Path) -> None:
    """Write the samples one by one, 1000 per shard."""
    import webdataset

    with webdataset.ShardWriter(str(out / "films-%06d.tar"), maxcount=1000, verbose=0) as shards:
        for film in inputs.films:
            label = {"age_months": film.age_months, "gender": film.gender}
            shards.write({"__key__": film.path.stem, "jpg": pillow_jpeg(film.path, inputs.size), "json": label})


def pillow_sample(film: Film, size: int) -> dict[str, object]:
    """Return the sample that litData and MDSWriter store for a film."""
    return {"image": pillow_jpeg(film.path, size), "age_months": film.age_months, "gender": film.gender}


def write_with_litdata(inputs: WriterInput, out: Path) -> None:
    """Write chunks of 64 MB with litData's workers."""
    from litdata import optimize

    os.environ["DATA_OPTIMIZER_CACHE_FOLDER"] = str(out / "cache")
    os.environ["DATA_OPTIMIZER_DATA_CACHE_FOLDER"] = str(out / "cache-data")
    make_sample = partial(pillow_sample, size=inputs.size)
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        films = list(inputs.films)
        optimize(make_sample, films, str(out / "set"), num_workers=CORES, chunk_bytes="64MB", verbose=False)


def mosaic_per_second(inputs: WriterInput) -> float:
    """Return the images per second of MDSWriter in its own environment; its imports are not timed."""
    films = json.dumps([(str(film.path), film.gender, film.age_months) for film in inputs.films])
    with tempfile.TemporaryDirectory(dir=inputs.table.parent) as out:
        command = [interpreter_for("mosaic"), "-m", "benchmarks.mosaic_writer", f"{out}/set", str(inputs.size)]
        done = subprocess.run(command, cwd=ROOT, input=films, check=True, stdout=subprocess.PIPE, text=True)
    return len(inputs.films) / float(done.stdout.split()[-1])


def images_per_second(write: Callable[[WriterInput, Path], None], inputs: WriterInput) -> float:
    """Return the images per second of writing the whole set into an empty folder; removing it is not timed."""
    with tempfile.TemporaryDirectory(dir=inputs.table.parent) as out:
        start = time.perf_counter()
        write(inputs, Path(out))
        return len(inputs.films) / (time.perf_counter() - start)


def limit_per_second(pool: ProcessPoolExecutor, inputs: WriterInput) -> float:
    """Return the images per second of making all images in processes that are already running."""
    paths = [film.path for film in inputs.films]
    start = time.perf_counter()
    total_bytes = sum(pool.map(partial(our_jpeg_bytes, size=inputs.size), paths, chunksize=FILMS_PER_TASK))
    assert total_bytes
    return len(paths) / (time.perf_counter() - start)


def import_mosaic() -> None:
    """Raise unless the environment of MDSWriter can be created and works."""
    subprocess.run([interpreter_for("mosaic"), "-c", "import streaming"], check=True)


def available_writers(inputs: WriterInput, peers: Sequence[str]) -> dict[str, Callable[[], float]]:
    """Return wds_bone, the loop, and the peers that run on this machine; print which do not."""
    writers: dict[str, Callable[[], float]] = {
        OURS: partial(images_per_second, write_with_make_shards, inputs),
        LOOP: partial(images_per_second, write_with_webdataset, inputs),
    }
    runs = {LITDATA: partial(images_per_second, write_with_litdata, inputs), MOSAIC: partial(mosaic_per_second, inputs)}
    imports: dict[str, Callable[[], object]] = {
        LITDATA: partial(importlib.import_module, "litdata"),
        MOSAIC: import_mosaic,
    }
    for name in peers:
        try:
            imports[name]()
        except (ImportError, subprocess.CalledProcessError) as error:
            print(f"left out: {name}: {error}")
        else:
            writers[name] = runs[name]
    return writers


def summarize(speeds: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Return the median speeds per core, and the ratios to the limit and to the loop."""
    speed = {name: statistics.median(values) for name, values in speeds.items()}
    per_core = {name: value / NUM_PROCESSES[name] for name, value in speed.items()}
    ratios = {"of_limit": speed[OURS] / speed[LIMIT], "of_loop": speed[OURS] / speed[LOOP]}
    return {"images_per_second_per_core": per_core, "ratios": ratios}


def writer_targets(ratios: dict[str, float]) -> list[Target]:
    """Return the targets of the two ratios."""
    return [
        Target("of decoding, resizing and encoding alone", ratios["of_limit"], minimum=MIN_FRACTION_OF_LIMIT),
        Target("times the ShardWriter loop", ratios["of_loop"], minimum=MIN_RATIO_TO_LOOP),
    ]


def parse_args() -> argparse.Namespace:
    """Return the command-line options."""
    from benchmarks.rounds import add_rounds_argument

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="folder of films (default: synthetic hands)")
    numbers = {
        "--num-films": (200, "number of different films, at most"),
        "--repeat": (1, "number of times to write each film"),
        "--size": (512, "side of the images in pixels"),
    }
    for name, (default, text) in numbers.items():
        parser.add_argument(name, type=int, default=default, metavar="N", help=f"{text} (default: %(default)s)")
    add_rounds_argument(parser)
    peers = [LITDATA, MOSAIC]
    parser.add_argument(
        "--peers",
        nargs="*",
        choices=peers,
        default=peers,
        metavar="NAME",
        help=f"other writers to compare with, from {LITDATA!r} and {MOSAIC!r} (default: both)",
    )
    return parser.parse_args()


def main() -> None:
    """Run the benchmark."""
    from benchmarks.rounds import print_table, print_targets, run_rounds, save_result

    args = parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        films = gather_films(args.images, folder, num_films=args.num_films, repeat=args.repeat)
        inputs = WriterInput(folder / "films", folder / "labels.csv", films, args.size)
        write_table(inputs.table, films)
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(CORES, mp_context=spawn) as pool:
            runs = available_writers(inputs, args.peers) | {LIMIT: partial(limit_per_second, pool, inputs)}
            speeds = run_rounds(runs, num_rounds=args.rounds)
    summary = summarize(speeds)
    print_table(speeds, unit="images per second", reference=LIMIT)
    per_core = summary["images_per_second_per_core"]
    print("per core: " + ", ".join(f"{name} {value:,.1f}" for name, value in per_core.items()))
    print_targets(writer_targets(summary["ratios"]))
    settings = {**vars(args), "images": "real films" if args.images else "synthetic hands", "num_images": len(films)}
    contents = {"settings": settings, "environments": CONFLICTING, "images_per_second": speeds, **summary}
    print(save_result("writer", contents))


if __name__ == "__main__":
    main()
