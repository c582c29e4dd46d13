"""Does the memory of a training process depend on the size of the data set?

Command:   python -m benchmarks.training_memory SMALL LARGE [--model resnet18] [--image-size 100]
Compared:  a small and a large set: two folders with the splits train and val, written by `wds-bone make-shards`.
Method:    one epoch of training and validation, each set in a separate process; the peak anonymous resident memory of
           the process, minus its value after all imports and with a model built.
Machine:   Linux; trains on the CPU.
Result:    benchmarks/results/training_memory.json.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.rounds import save_result

# RssAnon counts only the process's own memory, not the page cache that holds the shards.
MEASURING_PROGRAM = """
import json, sys, threading
import torch
from wds_bone import BoneAgeStream
from wds_bone.model.model import build_model
from wds_bone.train import main

def anonymous_bytes():
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

shards, out, model, size = sys.argv[1:]
built = build_model(model)
baseline, peaks, done = anonymous_bytes(), [], threading.Event()

def watch():
    while not done.wait(0.05):
        peaks.append(anonymous_bytes())

watcher = threading.Thread(target=watch)
watcher.start()
del built
code = main(["--train", shards + "/manifest.json", "--out", out, "--model", model, "--image-size", size,
             "--epochs", "1", "--device", "cpu"])
done.set()
watcher.join()
assert code == 0
print("MEASURED", json.dumps({"baseline_bytes": baseline, "peak_bytes": max(peaks)}))
"""


def measure_memory(shards: Path, *, model: str, image_size: int) -> dict[str, int]:
    """Return the baseline and the peak memory of a process that trains one epoch on `shards`, in bytes."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-c", MEASURING_PROGRAM, str(shards), f"{out}/run", model, str(image_size)]
        run = subprocess.run(command, check=True, capture_output=True, text=True)
    line = next(line for line in run.stdout.splitlines() if line.startswith("MEASURED"))
    measured: dict[str, int] = json.loads(line.removeprefix("MEASURED "))
    return measured


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("small", type=Path, metavar="SMALL", help="folder of the small set")
    parser.add_argument("large", type=Path, metavar="LARGE", help="folder of the large set")
    parser.add_argument("--model", default="resnet18", metavar="NAME", help="name of the model (default: %(default)s)")
    parser.add_argument(
        "--image-size",
        type=int,
        default=100,
        metavar="PIXELS",
        help="longer side of the input in pixels (default: %(default)s)",
    )
    args = parser.parse_args()
    folders = {"small": args.small, "large": args.large}
    memory = {
        name: measure_memory(shards, model=args.model, image_size=args.image_size) for name, shards in folders.items()
    }
    for name, measured in memory.items():
        growth = measured["peak_bytes"] - measured["baseline_bytes"]
        print(f"{name}: baseline {measured['baseline_bytes'] / 2**20:.0f} MiB, growth {growth / 2**20:.0f} MiB")
    print(save_result("training_memory", {"model": args.model, "image_size": args.image_size, "bytes": memory}))


if __name__ == "__main__":
    main()
