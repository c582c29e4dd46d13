"""How fast do batches come from a cold page cache, compared with reading the same bytes sequentially?

Command:   python -m benchmarks.cold [--images FOLDER] [--size 512] [--encoding jpg] [--rounds 5] [--loaders NAME ...]
Compared:  the modules of `benchmarks.loaders` that do not map their files (mapped pages cannot be dropped from the
           cache, which rules out DALI and litData), each with its own files; reading the tars sequentially in blocks
           of 1 MiB; `decode_only`.
Method:    one shuffled epoch. Before each epoch every file is dropped from the page cache, and the program checks that
           it is gone.
Machine:   Linux, two CPU cores, the repository on a disk rather than in memory.
Result:    benchmarks/results/cold-<encoding>-<size>.json and .png. The slower of reading and decoding is the limit.
"""

import argparse
import ctypes
import mmap
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks.loader_process import open_loaders, require_whole_batches, with_required
from benchmarks.rounds import add_rounds_argument, draw_bars, print_table, print_targets, run_rounds, save_result
from benchmarks.samples import add_sample_arguments, write_samples
from benchmarks.targets import cold_targets

READING_ONLY = "reading_only"
BLOCK_BYTES = 1 << 20
LIBC = ctypes.CDLL(None, use_errno=True)
WORK_FOLDER = Path(__file__).parent / ".work"
WITHOUT_MMAP = ("loose_files", "webdataset_tuned", "mosaic")


def drop_from_cache(folder: Path) -> None:
    """Drop the pages of all files below `folder` from the page cache; the files must have been synced to disk."""
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_size:
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                assert not cached_pages(file.fileno()), f"{path}: still in the page cache"


def cached_pages(descriptor: int) -> int:
    """Return how many pages of a file are in memory.

    This uses `mincore`, because reading the pages to find out, even with RWF_NOWAIT, would load them.
    """
    with mmap.mmap(descriptor, 0, prot=mmap.PROT_READ) as mapped:
        address = np.frombuffer(mapped, np.uint8).ctypes.data
        resident = np.zeros(-(-len(mapped) // mmap.PAGESIZE), np.uint8)
        failed = LIBC.mincore(
            ctypes.c_void_p(address), ctypes.c_size_t(len(mapped)), ctypes.c_void_p(resident.ctypes.data)
        )
    assert not failed, os.strerror(ctypes.get_errno())
    return int((resident & 1).sum())


def read_tars(folder: Path, *, num_samples: int) -> float:
    """Read the tars sequentially and return the speed in samples per second."""
    start = time.perf_counter()
    for path in sorted(folder.glob("*.tar")):
        with path.open("rb", buffering=0) as file:
            while file.read(BLOCK_BYTES):
                pass
    return num_samples / (time.perf_counter() - start)


def with_cold_cache(run: Callable[[], float], folder: Path) -> Callable[[], float]:
    """Return a function that drops the files of `folder` from the page cache and then calls `run`."""

    def measure() -> float:
        drop_from_cache(folder)
        return run()

    return measure


def parse_args() -> argparse.Namespace:
    """Return the command-line options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_sample_arguments(parser, size=512, num_samples=8192, encoding="jpg")
    add_rounds_argument(parser)
    parser.add_argument(
        "--loaders",
        nargs="+",
        choices=WITHOUT_MMAP,
        default=WITHOUT_MMAP,
        metavar="NAME",
        help=f"loaders to compare with ours and the decoder alone, from {', '.join(WITHOUT_MMAP)} (default: all)",
    )
    return parser.parse_args()


def measure_speeds(args: argparse.Namespace) -> dict[str, list[float]]:
    """Return the images per second of each loader and of reading alone, one value per round."""
    WORK_FOLDER.mkdir(exist_ok=True)  # next to the code, because the system's temporary folder may be in memory
    with tempfile.TemporaryDirectory(dir=WORK_FOLDER) as name, ExitStack() as stack:
        folder, kind = Path(name), {"size": args.size, "encoding": args.encoding}
        write_samples(folder / "samples", args.images, num_samples=args.num_samples, **kind)
        loaders = open_loaders(with_required(args.loaders), folder, stack, shared=False, **kind)
        os.sync()
        runs = {loader.name: with_cold_cache(loader.images_per_second, folder) for loader in loaders}
        runs[READING_ONLY] = with_cold_cache(lambda: read_tars(folder / "ours", num_samples=args.num_samples), folder)
        return run_rounds(runs, num_rounds=args.rounds)


def main() -> None:
    """Run the benchmark."""
    args = parse_args()
    require_whole_batches(args.num_samples)
    speeds = measure_speeds(args)
    print_table(speeds, unit="images per second", reference=READING_ONLY)
    print_targets(cold_targets(speeds))
    settings = {**vars(args), "images": "real films" if args.images else "synthetic hands"}
    result = f"cold-{args.encoding}-{args.size}"
    print(draw_bars(result, speeds, title=f"{args.size} px {args.encoding}, cold page cache", unit="images per second"))
    print(save_result(result, {"settings": settings, "images_per_second": speeds}))


if __name__ == "__main__":
    main()
