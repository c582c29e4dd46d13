"""How long does a Dask cluster take for a set of shards, with one worker and with two, compared with local processes?

Command:   python -m benchmarks.cluster [--images FOLDER] [--num-films 200] [--repeat 1] [--size 512] [--rounds 5]
Compared:  `wds-bone make-shards` with `--workers 1` and `--workers 2`; with `--scheduler ADDRESS` and one worker or
           two, each a process with one thread that is already running. The start of the command, its connection and the
           comparison of the workers are included.
Method:    films from a folder to letterboxed gray JPEG q95, 24 shards; warm page cache. Scheduler, workers and the
           command share the cores of one machine. In the end, a worker is killed while two of them write. Every set
           is compared with the first one, byte for byte.
Machine:   Linux, two CPU cores.
Result:    benchmarks/results/cluster.json and docs/cluster.md.
"""

import argparse
import contextlib
import hashlib
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.rounds import add_rounds_argument, print_table, run_rounds, save_result
from benchmarks.writer_inputs import WriterInput, gather_films, write_table
from wds_bone.shards.manifest import STAGING_NAME

NUM_SHARDS = 24
KILL_SECONDS, RUN_SECONDS = 120, 1800
NUM_WORKERS = (1, 2)


def seconds_to_write(
    inputs: WriterInput, digests: set[str], *options: str, meanwhile: Callable[[Path], None] = lambda _: None
) -> float:
    """Return the seconds for the whole set, and add its digest to `digests`; call `meanwhile` in a thread."""
    per_shard = math.ceil(len(inputs.films) / NUM_SHARDS)
    with tempfile.TemporaryDirectory(dir=inputs.table.parent) as out, ThreadPoolExecutor(1) as pool:
        paths = ["--labels", str(inputs.table), "--images", str(inputs.folder), "--out", out]
        settings = ["--size", str(inputs.size), "--samples-per-shard", str(per_shard)]
        other = pool.submit(meanwhile, Path(out))
        start = time.perf_counter()
        command = [sys.executable, "-m", "wds_bone.make_shards", *paths, *settings, *options]
        finished = subprocess.run(command, check=False, capture_output=True, text=True, timeout=RUN_SECONDS)
        seconds = time.perf_counter() - start
        if finished.returncode != 0:
            raise SystemExit(finished.stderr)
        other.result(KILL_SECONDS)
        digests.add(digest_of(Path(out)))
    return seconds


def seconds_with_a_kill(inputs: WriterInput, digests: set[str]) -> float:
    """Return the seconds for the whole set with two workers, of which one is killed while it writes a shard."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        process = next(iter(cluster.workers.values())).process.process
        options = "--scheduler", cluster.scheduler_address
        return seconds_to_write(inputs, digests, *options, meanwhile=partial(kill_while_it_writes, process.pid))


def kill_while_it_writes(process: int, out: Path) -> None:
    """Kill a worker when some shards are finished and it has an unfinished one open."""
    deadline = time.monotonic() + KILL_SECONDS
    while len(list(out.glob(f"{STAGING_NAME}/*.json"))) < NUM_SHARDS // 4 or not is_writing(process):
        if time.monotonic() > deadline:
            raise TimeoutError("the worker did not begin to write")
        time.sleep(0.001)
    os.kill(process, signal.SIGKILL)


def is_writing(process: int) -> bool:
    """Return whether a process has an unfinished file open."""
    with contextlib.suppress(OSError):  # a file that it has just closed
        return any(str(path.readlink()).endswith(".tmp") for path in Path(f"/proc/{process}/fd").iterdir())
    return False


def digest_of(out: Path) -> str:
    """Return the sha256 of the names and contents of all files of a set."""
    digest = hashlib.sha256()
    for path in sorted(out.iterdir()):
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def writers(inputs: WriterInput, digests: set[str], stack: ExitStack) -> dict[str, Callable[[], float]]:
    """Return a function per kind and number of workers; the workers of the clusters run until `stack` is closed."""
    from distributed import LocalCluster

    found: dict[str, Callable[[], float]] = {}
    for number in NUM_WORKERS:
        found[f"local, {number}"] = partial(seconds_to_write, inputs, digests, "--workers", str(number))
        cluster = stack.enter_context(LocalCluster(n_workers=number, threads_per_worker=1, dashboard_address=":0"))
        address = cluster.scheduler_address
        found[f"cluster, {number}"] = partial(seconds_to_write, inputs, digests, "--scheduler", address)
    return found


def parse_args() -> argparse.Namespace:
    """Return the command-line options."""
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
    return parser.parse_args()


def main() -> None:
    """Run the benchmark."""
    args, digests = parse_args(), set[str]()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        films = gather_films(args.images, folder, num_films=args.num_films, repeat=args.repeat)
        inputs = WriterInput(folder / "films", folder / "labels.csv", films, args.size)
        write_table(inputs.table, films)
        seconds = run_rounds(writers(inputs, digests, stack), num_rounds=args.rounds)
        seconds["cluster, 2, one killed"] = [seconds_with_a_kill(inputs, digests)]
    print_table(seconds, unit="seconds", reference="local, 1")
    print(f"different sets: {len(digests)}")
    settings = {**vars(args), "images": "real films" if args.images else "synthetic hands", "num_images": len(films)}
    print(save_result("cluster", {"settings": settings, "different_sets": len(digests), "seconds": seconds}))


if __name__ == "__main__":  # the workers import this module
    main()
