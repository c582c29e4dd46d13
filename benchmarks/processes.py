"""What do two processes with one thread each gain over one process with two threads, and what do they cost?

Command:   python -m benchmarks.processes [--shards FOLDER] [--model resnet18] [--image-size 100] [--steps 60]
Compared:  `wds-bone train` with two threads; the same training under `torchrun` with two processes of one thread each.
Method:    the same global batches of 32; images per second from metrics.jsonl, after the first third of the steps; the
           peak memory of all processes together.
Machine:   Linux, two CPU cores.
Result:    benchmarks/results/processes-<model>-<size>.json. Without --shards it draws synthetic hands.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.rounds import add_rounds_argument, print_table, run_rounds, save_result
from wds_bone.make_shards import main as make_shards

ONE, TWO = "one process, two threads", "two processes, one thread each"
LAUNCHERS = {
    ONE: [sys.executable, "-m"],
    TWO: [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"],
}
THREADS = {ONE: "2", TWO: "1"}


def timed_training(name: str, argv: list[str], *, num_steps: int, megabytes: list[float]) -> Callable[[], float]:
    """Return a function that trains for `num_steps` steps and returns images per second.

    Each call also appends the peak memory to `megabytes`.
    """

    def measure() -> float:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "run"
            process = subprocess.Popen(
                [*LAUNCHERS[name], "wds_bone.train", *argv, "--out", str(out), "--max-steps", str(num_steps)],
                env={**os.environ, "OMP_NUM_THREADS": THREADS[name]},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            megabytes.append(peak_megabytes(process))
            if process.returncode != 0:
                raise SystemExit(f"{name}: the training failed with exit code {process.returncode}")
            lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        return statistics.median(line["images_per_second"] for line in lines if line["step"] > num_steps // 3)

    return measure


def peak_megabytes(process: "subprocess.Popen[bytes]") -> float:
    """Wait for a process, and return its peak memory with its children, counting shared pages once, in MB."""
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, sum(map(proportional_bytes, with_children(process.pid))))
        time.sleep(0.2)
    return peak / 1e6


def with_children(pid: int) -> list[int]:
    """Return the IDs of a process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    return [pid, *map(int, children.read_text().split())] if children.exists() else [pid]


def proportional_bytes(pid: int) -> float:
    """Return the proportional set size (PSS) of a process in bytes, or 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return 1024.0 * sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def parse_args() -> argparse.Namespace:
    """Return the command-line options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--shards", type=Path, metavar="FOLDER", help="folder with the splits train and val (default: synthetic hands)"
    )
    parser.add_argument("--model", default="resnet18", metavar="NAME", help="name of the model (default: %(default)s)")
    parser.add_argument(
        "--image-size",
        type=int,
        default=100,
        metavar="PIXELS",
        help="longer side of the input in pixels (default: %(default)s)",
    )
    parser.add_argument("--steps", type=int, default=60, metavar="N", help="steps per training (default: %(default)s)")
    add_rounds_argument(parser)
    return parser.parse_args()


def main() -> None:
    """Run the benchmark."""
    args = parse_args()
    with tempfile.TemporaryDirectory() as folder:
        shards = args.shards or Path(folder) / "shards"
        if args.shards is None:
            make_shards(["--out", str(shards), "--synthetic", "2500", "--size", str(args.image_size)])
        argv = ["--train", str(shards / "manifest.json"), "--model", args.model, "--image-size", str(args.image_size)]
        argv += ["--device", "cpu", "--log-every", "10"]
        megabytes: dict[str, list[float]] = {name: [] for name in LAUNCHERS}
        runs = {name: timed_training(name, argv, num_steps=args.steps, megabytes=megabytes[name]) for name in LAUNCHERS}
        speeds = run_rounds(runs, num_rounds=args.rounds)
    print_table(speeds, unit="images per second", reference=ONE)
    print_table(megabytes, unit="MB of memory at the peak", reference=ONE)
    settings = {"model": args.model, "image_size": args.image_size, "steps": args.steps}
    contents = {"settings": settings, "images_per_second": speeds, "megabytes": megabytes}
    print(save_result(f"processes-{args.model}-{args.image_size}", contents))


if __name__ == "__main__":
    main()
