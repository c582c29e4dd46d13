"""How fast do batches come when nothing is in the page cache, against reading the same bytes from end to end?

Command:   python -m benchmarks.cold [--images FOLDER] [--size 512] [--encoding jpg] [--rounds 5] [--entrants NAME ...]
Entrants:  the modules of `benchmarks.entrants` that do not map their files (DALI and litData do: mapped pages cannot be
           dropped), each with files of its own; reading the tars one after another in blocks of 1 MiB; `decode_only`.
Work:      one shuffled epoch; before each one every file is dropped from the page cache, and it is checked that it is.
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

from benchmarks.lane import open_lanes, refuse_remainder, with_required
from benchmarks.rounds import draw_bars, print_table, print_targets, run_rounds, save_result
from benchmarks.samples import write_samples
from benchmarks.targets import cold_targets

READING = "reading_only"
BLOCK_BYTES = 1 << 20
LIBC = ctypes.CDLL(None, use_errno=True)
WORK = Path(__file__).parent / ".work"
UNMAPPED = ("loose_files", "webdataset_tuned", "mosaic")


def drop_from_cache(folder: Path) -> None:
    """Drop the pages of every file below `folder`; they must have been written out before."""
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_size:
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                assert not cached_pages(file.fileno()), f"{path}: still in the page cache"


def cached_pages(descriptor: int) -> int:
    """Return how many pages of a file are in memory; to try and read them, even with RWF_NOWAIT, would fetch them."""
    with mmap.mmap(descriptor, 0, prot=mmap.PROT_READ) as mapped:
        address = np.frombuffer(mapped, np.uint8).ctypes.data
        resident = np.zeros(-(-len(mapped) // mmap.PAGESIZE), np.uint8)
        failed = LIBC.mincore(
            ctypes.c_void_p(address), ctypes.c_size_t(len(mapped)), ctypes.c_void_p(resident.ctypes.data)
        )
    assert not failed, os.strerror(ctypes.get_errno())
    return int((resident & 1).sum())


def read_all(folder: Path, *, num_samples: int) -> float:
    """Read the tars from end to end and return how many samples that makes in a second."""
    start = time.perf_counter()
    for path in sorted(folder.glob("*.tar")):
        with path.open("rb", buffering=0) as file:
            while file.read(BLOCK_BYTES):
                pass
    return num_samples / (time.perf_counter() - start)


def cold(run: Callable[[], float], folder: Path) -> Callable[[], float]:
    """Return `run` with an empty page cache before it."""

    def measure() -> float:
        drop_from_cache(folder)
        return run()

    return measure


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="a folder of films; synthetic hands without it")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--encoding", choices=["jpg", "png", "npy"], default="jpg")
    parser.add_argument("--num-samples", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--entrants", nargs="+", choices=UNMAPPED, default=UNMAPPED, help="beside ours and the limit")
    args = parser.parse_args()
    refuse_remainder(args.num_samples)
    WORK.mkdir(exist_ok=True)  # on the disk of the repository: the system's folder for such files may lie in memory
    with tempfile.TemporaryDirectory(dir=WORK) as name, ExitStack() as stack:
        folder, kind = Path(name), {"size": args.size, "encoding": args.encoding}
        write_samples(folder / "samples", args.images, num_samples=args.num_samples, **kind)
        lanes = open_lanes(with_required(args.entrants), folder, stack, shared=False, **kind)
        os.sync()
        runs = {lane.name: cold(lane.images_per_second, folder) for lane in lanes}
        runs[READING] = cold(lambda: read_all(folder / "ours", num_samples=args.num_samples), folder)
        figures = run_rounds(runs, num_rounds=args.rounds)
    print_table(figures, unit="images per second", reference=READING)
    print_targets(cold_targets(figures))
    settings = {**vars(args), "images": "real films" if args.images else "synthetic hands"}
    result = f"cold-{args.encoding}-{args.size}"
    print(
        draw_bars(result, figures, title=f"{args.size} px {args.encoding}, cold page cache", unit="images per second")
    )
    print(save_result(result, {"settings": settings, "images_per_second": figures}))


if __name__ == "__main__":
    main()
