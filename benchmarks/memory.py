"""How much memory does loading take, and does it grow with the dataset?

Command:   python -m benchmarks.memory [--images FOLDER] [--size 512] [--num-samples 512] [--loaders NAME ...]
Compared:  the modules of `benchmarks.loaders`, one at a time, with two threads or two workers each.
Method:    an epoch of batches of 64 gray JPEG images over N, 4 N and 16 N samples; the peak memory of the process tree
           (anonymous and shared, sampled every 20 ms) minus its memory after all imports; median of five epochs after
           a first one.
Machine:   Linux, two CPU cores.
Result:    benchmarks/results/memory.json and .png. `benchmarks.training_memory` measures a whole training.
"""

import argparse
import statistics
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.loader_process import (
    LIMIT,
    LOADER_NAMES,
    LoaderProcess,
    memory_of_tree,
    open_loaders,
    require_whole_batches,
)
from benchmarks.rounds import RESULTS, add_rounds_argument, print_targets, save_result
from benchmarks.samples import add_sample_arguments, write_samples
from benchmarks.targets import memory_targets

MULTIPLES = (1, 4, 16)
INTERVAL_SECONDS = 0.02
MEASURED = [name for name in LOADER_NAMES if name != LIMIT]


def peak_megabytes(loader: LoaderProcess) -> float:
    """Run one epoch and return the peak memory of the loader above its memory after the imports, in MB."""
    done, seen = threading.Event(), [0]

    def watch() -> None:
        while not done.wait(INTERVAL_SECONDS):
            seen.append(memory_of_tree(loader.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    loader.request("epoch")
    done.set()
    watcher.join()
    return (max(seen) - loader.imported_bytes) / 1e6


def measure(loader: LoaderProcess, *, num_rounds: int) -> list[float]:
    """Return the peaks of `num_rounds` epochs in MB, after one epoch that is not measured."""
    loader.request("epoch")
    return [peak_megabytes(loader) for _ in range(num_rounds)]


def draw_lines(megabytes: dict[str, list[list[float]]], num_samples: list[int], *, title: str) -> Path:
    """Write `benchmarks/results/memory.png`: the median peak of each loader against the number of samples."""
    figure = FigureCanvasAgg(Figure(figsize=(8, 4.5), layout="constrained")).figure
    axis = figure.subplots()
    for loader, sizes in megabytes.items():
        color, width = ("#2f6690", 3) if loader == "ours" else (None, 1.5)
        medians = [statistics.median(peaks) for peaks in sizes]
        axis.plot(num_samples, medians, "o-", label=loader.replace("_", " "), color=color, linewidth=width)
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_xlabel("samples")
    axis.set_ylabel("MB")
    axis.set_title(title)
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    path = RESULTS / "memory.png"
    figure.savefig(path, dpi=100, metadata={"Software": None})
    return path


def parse_args() -> argparse.Namespace:
    """Return the command-line options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_sample_arguments(parser, size=512, num_samples=512)
    parser.add_argument(
        "--loaders",
        nargs="+",
        choices=LOADER_NAMES,
        default=MEASURED,
        metavar="NAME",
        help=f"loaders to measure, from {', '.join(LOADER_NAMES)} (default: all but {LIMIT})",
    )
    add_rounds_argument(parser)
    return parser.parse_args()


def measure_sets(args: argparse.Namespace, num_samples: list[int]) -> dict[str, list[list[float]]]:
    """Return the peaks of each loader in MB, a list per size of the dataset."""
    kind = {"size": args.size, "encoding": "jpg"}
    megabytes: dict[str, list[list[float]]] = {}
    for number in num_samples:
        with tempfile.TemporaryDirectory() as folder:
            write_samples(Path(folder) / "samples", args.images, num_samples=number, **kind)
            for name in args.loaders:
                with ExitStack() as stack:
                    for loader in open_loaders([name], Path(folder), stack, **kind):
                        megabytes.setdefault(name, []).append(measure(loader, num_rounds=args.rounds))
    return megabytes


def main() -> None:
    """Run the benchmark."""
    args = parse_args()
    require_whole_batches(args.num_samples)
    num_samples = [multiple * args.num_samples for multiple in MULTIPLES]
    megabytes = measure_sets(args, num_samples)
    for name, sizes in megabytes.items():
        print(f"{name:22}" + "".join(f"{statistics.median(peaks):10,.0f}" for peaks in sizes) + "   MB")
    print_targets(memory_targets({name: [statistics.median(peaks) for peaks in megabytes[name]] for name in megabytes}))
    print(draw_lines(megabytes, num_samples, title=f"Memory of loading {args.size} px films, above the imports"))
    settings = {**vars(args), "images": "real films" if args.images else "synthetic hands", "times": MULTIPLES}
    print(save_result("memory", {"settings": settings, "megabytes": megabytes}))


if __name__ == "__main__":
    main()
