"""Run two epochs of one loader over the network in a new process, and print what they took.

In: a `Job`.
Out: seconds of the first batch and of both epochs; or memory, requests over HTTP and the delivered samples.
Invariant: the clock starts after all imports and before the loader is opened. Nothing disturbs what is timed: memory
and requests are measured in other runs.

    python -m benchmarks.remote_process JOB    where JOB is JSON
"""

import importlib
import json
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.loader_process import answer, memory_of_tree, read_rows
from benchmarks.loaders import Epochs

INTERVAL_SECONDS = 0.02
LOG_SECONDS = 0.3  # until the server has written what it has answered


@dataclass(frozen=True)
class Job:
    """What a process does.

    Attributes:
        loader: a module of `benchmarks.loaders`.
        source: the folder or URL that it reads.
        cache: the folder where it may keep shards; "none" or None for none.
        log: the access log of the HTTP server.
        is_watched: measure memory and requests, and return the samples; otherwise measure seconds.
    """

    loader: str
    source: str
    cache: str | None
    log: str
    is_watched: bool


def time_epochs(job: Job) -> dict[str, Any]:
    """Return the seconds until the first batch, of the first epoch with opening the loader, and of the second epoch."""
    module = importlib.import_module(f"benchmarks.loaders.{job.loader}")
    began = time.perf_counter()
    epoch = module.open_remote(job.source, job.cache)
    num_samples, first_batch_seconds = 0, 0.0
    for image, _, _ in epoch():
        first_batch_seconds = first_batch_seconds or time.perf_counter() - began
        num_samples += len(image)
    middle = time.perf_counter()
    num_samples += sum(len(image) for image, _, _ in epoch())
    return {
        "num_samples": num_samples,
        "first_batch": first_batch_seconds,
        "first_epoch": middle - began,
        "second_epoch": time.perf_counter() - middle,
    }


def watch_epochs(job: Job) -> dict[str, Any]:
    """Return the samples of an epoch, the peak memory, and the requests and bytes over HTTP of both epochs."""
    module = importlib.import_module(f"benchmarks.loaders.{job.loader}")
    before, requests = memory_of_tree(os.getpid()), [read_log(job.log)]
    with peak_memory() as peaks:
        epoch: Epochs = module.open_remote(job.source, job.cache)
        rows = read_rows(epoch())
        requests.append(read_log(job.log))
        assert read_rows(epoch()) == rows, "the second epoch has other samples"
        requests.append(read_log(job.log))
    found = {"rows": rows, "memory_bytes": max(peaks) - before}
    if job.source.startswith("s3://"):  # its server writes no log
        return found
    return found | {
        "requests": [after[0] - before[0] for before, after in pairwise(requests)],
        "bytes": [after[1] - before[1] for before, after in pairwise(requests)],
    }


def read_log(path: str) -> tuple[int, int]:
    """Return the requests that a server has answered so far, and the bytes of the answers."""
    time.sleep(LOG_SECONDS)
    sizes = [int(line.split()[3]) for line in Path(path).read_text().splitlines()]
    return len(sizes), sum(sizes)


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """Append the memory of this process and its descendants to a list, again and again."""
    done, seen = threading.Event(), [0]

    def watch() -> None:
        while not done.wait(INTERVAL_SECONDS):
            seen.append(memory_of_tree(os.getpid()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        done.set()
        watcher.join()


def main() -> None:
    """Do a job."""
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nothing writes to it
    job = Job(**json.loads(sys.argv[1]))
    answer(watch_epochs(job) if job.is_watched else time_epochs(job))


if __name__ == "__main__":
    main()
