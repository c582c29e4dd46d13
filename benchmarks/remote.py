"""How fast do batches come over the network, compared with local files, other loaders and the link alone?

Command:   python -m benchmarks.remote [--place 200mbit ...] [--images FOLDER] [--num-samples 2048] [--rounds 5]
Compared:  ours from local files, over HTTP (nginx) and S3 (moto), with a cache that is empty at first and without one;
           webdataset over HTTP, with its own handler and with `pipe:curl`; MosaicML streaming over S3. All have two
           threads or two workers. `link` downloads the same shards with curl, eight at a time, and is the upper limit.
Method:    two epochs of shuffled batches of 64 gray JPEG images, each measurement in a new process. The clock starts
           after the imports, before the loader is opened. Memory and requests are measured once, in runs before the
           others that also compare the samples of all loaders.
Machine:   Linux, two CPU cores, which the servers share; the right to create network namespaces (places with a rate).
Result:    benchmarks/results/remote-<place>.json and .png; docs/object-storage.md explains the requests.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks.environments import CONFLICTING, interpreter_for
from benchmarks.loader_process import (
    ENVIRONMENT,
    ROOT,
    LoaderError,
    find_answer,
    prepare,
    require_equal,
    require_whole_batches,
)
from benchmarks.loaders.ours import NUM_SHARDS
from benchmarks.remote_process import Job
from benchmarks.rounds import add_rounds_argument, draw_bars, print_targets, run_rounds, save_result
from benchmarks.samples import add_sample_arguments, write_samples
from benchmarks.targets import remote_targets
from tests.servers.link import delayed, limited_link
from tests.servers.nginx import nginx
from tests.servers.s3 import moto_s3, s3_environment

LINK_MEGABITS, ROUND_TRIP_SECONDS = 200, 0.05
PLACES = ("loopback", "200mbit", "200mbit-50ms")
LINK = "link"
TIMES = ("first_batch", "first_epoch", "second_epoch")
UPLOAD = "from tests.servers.s3 import *; upload_s3(sys.argv[1], Path(sys.argv[2]), bucket='bones')"
RUN_SECONDS = 600

Seconds = dict[str, dict[str, list[float]]]
"""By the kind of time, then by candidate, the seconds of each round."""
Watched = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Place:
    """Servers, and the way to them: their URLs, words that run a command at the client's end, the log of nginx."""

    http: str
    s3: str
    prefix: tuple[str, ...]
    log: Path


@dataclass(frozen=True)
class Candidate:
    """A loader, what it reads, and whether it may keep shards in a folder, which is empty at first."""

    loader: str
    source: str
    has_cache: bool = False


def candidates_at(place: Place, folder: Path) -> dict[str, Candidate]:
    """Return what is compared; ours first."""
    tars = f"{place.http}/ours/bench-{{000000..{NUM_SHARDS - 1:06d}}}.tar"
    return {
        "ours_local": Candidate("ours", str(folder / "ours")),
        "ours_http": Candidate("ours", f"{place.http}/ours/manifest.json", has_cache=True),
        "ours_http_no_cache": Candidate("ours", f"{place.http}/ours/manifest.json"),
        "ours_s3": Candidate("ours", "s3://bones/ours/manifest.json", has_cache=True),
        "webdataset_http": Candidate("webdataset_tuned", tars),
        "webdataset_curl": Candidate("webdataset_tuned", f"pipe:curl -s -f {tars}"),
        "mosaic_s3": Candidate("mosaic", "s3://bones/mosaic", has_cache=True),
    }


@contextmanager
def open_place(name: str, folder: Path) -> Iterator[Place]:
    """Serve a folder over HTTP and S3, here or at the other end of a link."""
    with ExitStack() as stack:
        link = stack.enter_context(limited_link(LINK_MEGABITS)) if name != PLACES[0] else None
        log = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "log"
        urls = [stack.enter_context(nginx(folder, link=link, log=log)), stack.enter_context(moto_s3(link))]
        subprocess.run(
            [*(link.server if link else ()), sys.executable, "-c", f"import sys; {UPLOAD}", urls[1], str(folder)],
            cwd=ROOT,
            check=True,
            timeout=RUN_SECONDS,
        )
        if name == PLACES[2]:
            urls = [stack.enter_context(delayed(url, round_trip_seconds=ROUND_TRIP_SECONDS, link=link)) for url in urls]
        yield Place(*urls, link.client if link else (), log)


def run_candidate(candidate: Candidate, place: Place, *, is_watched: bool = False) -> dict[str, Any]:
    """Run two epochs in a new process, with an empty cache, and return its answer.

    Raises:
        LoaderError: if the process fails.
    """
    with tempfile.TemporaryDirectory() as empty:
        cache = f"{empty}/cache" if candidate.has_cache else "none"
        job = Job(candidate.loader, candidate.source, cache, str(place.log), is_watched)
        command = [interpreter_for(candidate.loader), "-m", "benchmarks.remote_process", json.dumps(asdict(job))]
        run = subprocess.run(
            [*place.prefix, *command],
            cwd=ROOT,
            env=ENVIRONMENT | s3_environment(place.s3) | {"S3_ENDPOINT_URL": place.s3},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
            timeout=RUN_SECONDS,
        )
    if (found := find_answer(run.stdout.splitlines())) is None:
        raise LoaderError(f"{candidate.loader} over {candidate.source}: ended with exit code {run.returncode}")
    return found


def download(place: Place, *, num_samples: int) -> dict[str, Any]:
    """Download all shards with curl, and return the seconds as a process with a loader does."""
    tars = f"{place.http}/ours/bench-[000000-{NUM_SHARDS - 1:06d}].tar"
    began = time.perf_counter()
    command = [*place.prefix, "curl", "-f", "-Z", "--no-progress-meter", tars, "-o", "/dev/null"]
    subprocess.run(command, check=True, timeout=RUN_SECONDS)
    return {"num_samples": num_samples, "first_epoch": time.perf_counter() - began}


def watch_all(candidates: dict[str, Candidate], place: Place) -> Watched:
    """Return memory and requests of all candidates; raise unless they deliver the same samples."""
    watched = {name: run_candidate(candidate, place, is_watched=True) for name, candidate in candidates.items()}
    require_equal({name: found.pop("rows") for name, found in watched.items()})
    return watched


def time_all(candidates: dict[str, Candidate], place: Place, args: argparse.Namespace) -> Seconds:
    """Return the seconds of each round, by what took them and by candidate; on a link also those of the link alone."""
    runs = {name: partial(run_candidate, candidate, place) for name, candidate in candidates.items()}
    if place.prefix:
        runs[LINK] = partial(download, place, num_samples=2 * args.num_samples)
    rounds = run_rounds(runs, num_rounds=args.rounds, warm_up=False)
    assert all(found["num_samples"] == 2 * args.num_samples for founds in rounds.values() for found in founds)
    return {
        kind: {name: [found[kind] for found in founds] for name, founds in rounds.items() if kind in founds[0]}
        for kind in TIMES
    }


def print_times(seconds: Seconds, watched: Watched, *, num_samples: int) -> None:
    """Print the medians of all rounds, and what was watched; two numbers are of the first and the second epoch."""
    titles = "first batch, s", "images/s", "memory, MB", "requests", "MB fetched"
    print(f"{'':20}" + "".join(f"{title:>18}" for title in titles))
    for name, first_epochs in seconds["first_epoch"].items():
        batches, epochs, found = seconds["first_batch"].get(name), seconds["second_epoch"].get(name), watched.get(name)
        speeds = [num_samples / statistics.median(values) for values in (first_epochs, epochs) if values]
        columns = [
            f"{statistics.median(batches):.2f}" if batches else "",
            " ".join(f"{speed:8,.0f}" for speed in speeds),
        ]
        if found:
            columns += [f"{found['memory_bytes'] / 1e6:,.0f}"]
        if found and "requests" in found:
            columns += [" ".join(f"{number:8,}" for number in found["requests"])]
            columns += [" ".join(f"{size / 1e6:8,.1f}" for size in found["bytes"])]
        print(f"{name:20}" + "".join(f"{column:>18}" for column in columns), flush=True)


def parse_args() -> argparse.Namespace:
    """Return the command-line options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_sample_arguments(parser, size=512, num_samples=2048)
    add_rounds_argument(parser)
    parser.add_argument(
        "--place", nargs="+", choices=PLACES, default=PLACES, help=f"from {', '.join(PLACES)} (default: all)"
    )
    parser.add_argument(
        "--without", nargs="+", default=[], metavar="NAME", help="candidates to leave out, such as mosaic_s3"
    )
    return parser.parse_args()


def run_place(name: str, folder: Path, args: argparse.Namespace) -> None:
    """Measure at one place, print and save the result."""
    with open_place(name, folder) as place:
        candidates = candidates_at(place, folder)
        watched = watch_all({key: candidates[key] for key in candidates if key not in args.without}, place)
        seconds = time_all({key: candidates[key] for key in watched}, place, args)
    print(f"\n{name}")
    print_times(seconds, watched, num_samples=args.num_samples)
    print_targets(remote_targets(seconds, {key: found["memory_bytes"] / 1e6 for key, found in watched.items()}))
    settings = {**vars(args), "place": name, "images": "real films" if args.images else "synthetic hands"}
    settings["mosaic"] = CONFLICTING["mosaic"]
    settings["shard_bytes"] = sum(path.stat().st_size for path in (folder / "ours").glob("*.tar"))
    speeds = {key: [args.num_samples / each for each in found] for key, found in seconds["first_epoch"].items()}
    title = f"First epoch of {args.num_samples} films, {args.size} px JPEG, {name}, two cores"
    print(draw_bars(f"remote-{name}", speeds, title=title, unit="images per second"))
    print(save_result(f"remote-{name}", {"settings": settings, "seconds": seconds, "watched": watched}))


def main() -> None:
    """Run the benchmark."""
    args = parse_args()
    require_whole_batches(args.num_samples)
    with tempfile.TemporaryDirectory() as samples, tempfile.TemporaryDirectory() as folder:
        kind = {"size": args.size, "encoding": "jpg"}
        write_samples(Path(samples, "all"), args.images, num_samples=args.num_samples, **kind)
        for loader in ("ours", "mosaic")[: 1 if "mosaic_s3" in args.without else 2]:
            prepare(loader, Path(samples, "all"), Path(folder, loader), **kind)
        for name in args.place:
            try:
                run_place(name, Path(folder), args)
            except pytest.skip.Exception as reason:
                print(f"left out: {name} {reason}", flush=True)


if __name__ == "__main__":
    main()
