"""Does the memory of a training process depend on the size of the data set?

Command:   python -m benchmarks.training_memory SMALL LARGE [--model resnet18] [--image-size 100]
           (two folders of shards with splits train and val, as `scripts/make_shards.py` writes them)
Work:      one epoch of training and its validation, each in a process of its own; the peak of the process's resident
           memory, less what it was when everything was imported and the model was built.
Result:    benchmarks/results/training_memory.json.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.rounds import save_result

# RssAnon counts the process's own memory; the page cache of the shards belongs to the kernel.
MEASURE = """
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


def measure_growth(shards: Path, *, model: str, image_size: int) -> dict[str, int]:
    """Return the baseline and the peak of a process that trains one epoch on `shards`, in bytes."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-c", MEASURE, str(shards), f"{out}/run", model, str(image_size)]
        run = subprocess.run(command, check=True, capture_output=True, text=True)
    line = next(line for line in run.stdout.splitlines() if line.startswith("MEASURED"))
    measured: dict[str, int] = json.loads(line.removeprefix("MEASURED "))
    return measured


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("small", type=Path)
    parser.add_argument("large", type=Path)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--image-size", type=int, default=100)
    args = parser.parse_args()
    sizes = {"small": args.small, "large": args.large}
    figures = {name: measure_growth(path, model=args.model, image_size=args.image_size) for name, path in sizes.items()}
    for name, figure in figures.items():
        growth = figure["peak_bytes"] - figure["baseline_bytes"]
        print(f"{name}: baseline {figure['baseline_bytes'] / 2**20:.0f} MiB, growth {growth / 2**20:.0f} MiB")
    print(save_result("training_memory", {"model": args.model, "image_size": args.image_size, "bytes": figures}))


if __name__ == "__main__":
    main()
