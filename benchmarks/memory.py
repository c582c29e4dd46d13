"""How much memory does loading take, and does it grow with the data set?

Command:   python -m benchmarks.memory [--images FOLDER] [--size 512] [--num-samples 512] [--entrants NAME ...]
Work:      an epoch of batches of 64 gray JPEG images over N, 4 N and 16 N samples, each entrant by itself;
           the highest memory of the process tree (anonymous and shared, sampled every 20 ms), less what it was with
           everything imported; the median of five epochs after a first one.
Result:    benchmarks/results/memory.json and .png. `benchmarks.training_memory` asks the same of a whole training.
"""

import argparse
import statistics
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.lane import LIMIT, NAMES, Lane, memory_of_tree, open_lanes, refuse_remainder
from benchmarks.rounds import RESULTS, print_targets, save_result
from benchmarks.samples import write_samples
from benchmarks.targets import memory_targets

TIMES = (1, 4, 16)
SECONDS = 0.02


def peak_megabytes(lane: Lane) -> float:
    """Return how far the memory of an entrant rises above its imports in an epoch."""
    done, seen = threading.Event(), [0]

    def watch() -> None:
        while not done.wait(SECONDS):
            seen.append(memory_of_tree(lane.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    lane.ask("epoch")
    done.set()
    watcher.join()
    return (max(seen) - lane.imported_bytes) / 1e6


def measure(lane: Lane, *, num_rounds: int) -> list[float]:
    """Return the peaks of `num_rounds` epochs after a first one, in megabytes."""
    lane.ask("epoch")
    return [peak_megabytes(lane) for _ in range(num_rounds)]


def draw_lines(megabytes: dict[str, list[list[float]]], num_samples: list[int], *, title: str) -> Path:
    """Write `benchmarks/results/memory.png`: the median peak of each entrant over the number of samples."""
    figure = FigureCanvasAgg(Figure(figsize=(8, 4.5), layout="constrained")).figure
    axis = figure.subplots()
    for entrant, sizes in megabytes.items():
        color, width = ("#2f6690", 3) if entrant == "ours" else (None, 1.5)
        medians = [statistics.median(peaks) for peaks in sizes]
        axis.plot(num_samples, medians, "o-", label=entrant.replace("_", " "), color=color, linewidth=width)
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


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="a folder of films; synthetic hands without it")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--num-samples", type=int, default=512)
    parser.add_argument("--entrants", nargs="+", choices=NAMES, default=[name for name in NAMES if name != LIMIT])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    refuse_remainder(args.num_samples)
    kind = {"size": args.size, "encoding": "jpg"}
    num_samples = [times * args.num_samples for times in TIMES]
    megabytes: dict[str, list[list[float]]] = {}
    for number in num_samples:
        with tempfile.TemporaryDirectory() as name:
            write_samples(Path(name) / "samples", args.images, num_samples=number, **kind)
            for entrant in args.entrants:
                with ExitStack() as stack:
                    for lane in open_lanes([entrant], Path(name), stack, **kind):
                        megabytes.setdefault(entrant, []).append(measure(lane, num_rounds=args.rounds))
    for entrant, sizes in megabytes.items():
        print(f"{entrant:22}" + "".join(f"{statistics.median(peaks):10,.0f}" for peaks in sizes) + "   MB")
    print_targets(memory_targets({name: [statistics.median(peaks) for peaks in megabytes[name]] for name in megabytes}))
    print(draw_lines(megabytes, num_samples, title=f"Memory of loading {args.size} px films, above the imports"))
    settings = {**vars(args), "images": "real films" if args.images else "synthetic hands", "times": TIMES}
    print(save_result("memory", {"settings": settings, "megabytes": megabytes}))


if __name__ == "__main__":
    main()
