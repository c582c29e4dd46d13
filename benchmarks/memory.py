"""How much memory does loading take, and does it grow with the data set?

Command:   python -m benchmarks.memory [--images FOLDER] [--size 512] [--num-samples 512] [--entrants NAME ...]
Work:      an epoch of batches of 64 grey JPEG images over N, 4 N and 16 N samples, each entrant by itself;
           the highest memory of the process tree (PSS, sampled every 20 ms), less what it was with everything imported.
Result:    benchmarks/results/memory.json and .png. `benchmarks.training_memory` asks the same of a whole training.
"""

import argparse
import tempfile
import threading
from pathlib import Path

from benchmarks.lane import LIMIT, NAMES, Lane, memory_of_tree, open_lane
from benchmarks.rounds import draw_bars, print_targets, save_result
from benchmarks.samples import write_samples
from benchmarks.targets import memory_targets

TIMES = (1, 4, 16)
SECONDS = 0.02


def peak_bytes(lane: Lane) -> int:
    """Return how far the memory of an entrant rises above its imports in two epochs."""
    done, seen = threading.Event(), [0]

    def watch() -> None:
        while not done.wait(SECONDS):
            seen.append(memory_of_tree(lane.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(2):
        lane.ask("epoch")
    done.set()
    watcher.join()
    return max(seen) - lane.imported_bytes


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="a folder of films; synthetic hands without it")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--num-samples", type=int, default=512)
    parser.add_argument("--entrants", nargs="+", choices=NAMES, default=[name for name in NAMES if name != LIMIT])
    args = parser.parse_args()
    kind = {"size": args.size, "encoding": "jpg"}
    megabytes: dict[str, list[float]] = {name: [] for name in args.entrants}
    for times in TIMES:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_samples(folder / "samples", args.images, num_samples=times * args.num_samples, **kind)
            for entrant in args.entrants:
                with open_lane(entrant, folder, **kind) as lane:
                    megabytes[entrant].append(peak_bytes(lane) / 1e6)
    for entrant, values in megabytes.items():
        print(f"{entrant:22}" + "".join(f"{value:10,.0f}" for value in values) + "   MB at 1, 4 and 16 times")
    print_targets(memory_targets(megabytes))
    title = (
        f"Memory above the imports, {args.num_samples:,} to {TIMES[-1] * args.num_samples:,} films of {args.size} px"
    )
    print(draw_bars("memory", megabytes, title=title, unit="MB"))
    settings = {**vars(args), "images": "real films" if args.images else "synthetic hands", "times": TIMES}
    print(save_result("memory", {"settings": settings, "megabytes": megabytes}))


if __name__ == "__main__":
    main()
