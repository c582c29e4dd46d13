"""Which library should read byte ranges of shards from servers?

    python -m benchmarks.remote_clients [--rounds 5] [--num-requests 500]

Every candidate reads the same ranges of 10 to 40 kB, 32 at a time: from nginx over HTTP, and from moto's S3 server.
Measures ranges per second and the CPU time of the client per range, in interleaved rounds; then what each candidate
returns when the server closes every other connection in the middle of a body. Needs nginx, moto, urllib3, aiohttp and
s3fs; candidates that are not installed are left out. moto is slower than any client, so only the CPU time tells there.

Result (two busy cores, see `benchmarks/results/remote_clients.json`): obstore needs less than half of the CPU time of
urllib3, a quarter of that of s3fs, and as much as aiohttp alone. But it cannot refuse redirects, so HTTP is read with
the standard library's `http.client`, with less CPU time than with urllib3.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.rounds import RESULTS
from tests.servers.fault import Fault, fault_server
from tests.servers.nginx import nginx
from tests.servers.s3 import moto_s3, s3_environment, upload_s3
from wds_bone.objects.http_objects import HttpObjects
from wds_bone.objects.url import parse_url

NUM_AT_ONCE = 32
OBJECT_BYTES = 4 * 2**20  # moto copies the whole object for every range
Ranges = list[tuple[int, int]]
Read = Callable[[Ranges], int]
Numbers = dict[str, dict[str, float]]


def main() -> None:
    """Measure all candidates, print the results and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--num-requests", type=int, default=500)
    options = parser.parse_args()
    generator = random.Random(0)
    sizes = [generator.randrange(10_000, 40_000) for _ in range(options.num_requests)]
    ranges = [(generator.randrange(OBJECT_BYTES - size), size) for size in sizes]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "a.tar").write_bytes(bytes(OBJECT_BYTES))
        with nginx(folder) as root:
            http = measure("nginx", http_candidates(root), ranges, num_rounds=options.rounds)
        with moto_s3() as root:
            upload_s3(root, folder, bucket="bones")
            s3 = measure("moto", s3_candidates(root), ranges, num_rounds=options.rounds)
        cuts = {name: after_cut(folder, name) for name in http}
    print(json.dumps(cuts, indent=2))
    found = {"nginx": http, "moto": s3, "cut body": cuts}
    (RESULTS / "remote_clients.json").write_text(json.dumps(found, indent=2) + "\n")


def measure(server: str, candidates: dict[str, Read], ranges: Ranges, *, num_rounds: int) -> Numbers:
    """Return the medians of each candidate, and print them."""
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in candidates}
    for number in range(num_rounds + 1):
        for name, read in candidates.items():
            wall, cpu = time.perf_counter(), time.process_time()
            assert read(ranges) == sum(size for _, size in ranges)
            if number:  # the first round warms up
                samples[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    found: Numbers = {}
    for name, pairs in samples.items():
        rate = len(ranges) / statistics.median(wall for wall, _ in pairs)
        cpu = 1e6 * statistics.median(cpu for _, cpu in pairs) / len(ranges)
        found[name] = {"ranges_per_second": round(rate), "cpu_microseconds": round(cpu)}
        print(f"{server:6} {name:28} {rate:7,.0f} /s {cpu:7,.0f} us CPU", flush=True)
    return found


def after_cut(folder: Path, name: str) -> str:
    """Return what a candidate does when the first of two answers is cut."""
    numbers = iter(range(10**9))
    with fault_server(folder, lambda _: Fault(cut_at=10_000) if next(numbers) % 2 == 0 else None) as root:
        read = http_candidates(root)[name]
        try:
            return f"{read([(0, 20_000)]):,} of 20,000 bytes"
        except Exception as error:
            return type(error).__name__


def http_candidates(root: str) -> dict[str, Read]:
    """Return what reads `a.tar` over HTTP."""
    ours, url = HttpObjects(), parse_url(f"{root}/a.tar")
    candidates = {"wds_bone (http.client)": threaded(lambda start, size: len(ours.read(url, start, size)))}
    with suppress(ImportError):
        store = import_module("obstore.store").HTTPStore.from_url(root, client_options={"allow_http": True})
        candidates["obstore"] = obstore_reader(store)
    with suppress(ImportError):
        candidates["urllib3"] = urllib3_reader(f"{root}/a.tar")
    with suppress(ImportError):
        candidates["fsspec (aiohttp)"] = fsspec_reader("http", f"{root}/a.tar", module="aiohttp")
    return candidates


def s3_candidates(root: str) -> dict[str, Read]:
    """Return what reads `a.tar` from a bucket."""
    obstore, names = import_module("obstore"), s3_environment(root)
    keys = {"access_key_id": names["AWS_ACCESS_KEY_ID"], "secret_access_key": names["AWS_SECRET_ACCESS_KEY"]}
    store = import_module("obstore.store").S3Store(
        "bones", endpoint=root, region="us-east-1", client_options={"allow_http": True}, **keys
    )
    ours, signed = HttpObjects(), parse_url(obstore.sign(store, "GET", "a.tar", expires_in=timedelta(hours=1)))
    candidates = {
        "obstore": obstore_reader(store),
        "obstore signs, we read": threaded(lambda start, size: len(ours.read(signed, start, size))),
    }
    with suppress(ImportError):
        keys = {"key": names["AWS_ACCESS_KEY_ID"], "secret": names["AWS_SECRET_ACCESS_KEY"], "endpoint_url": root}
        candidates["s3fs"] = fsspec_reader("s3", "bones/a.tar", module="s3fs", **keys)
    return candidates


def threaded(read_one: Callable[[int, int], int]) -> Read:
    """Return what reads ranges in threads."""

    def read(ranges: Ranges) -> int:
        with ThreadPoolExecutor(NUM_AT_ONCE) as pool:
            return sum(pool.map(lambda part: read_one(*part), ranges))

    return read


def obstore_reader(store: object) -> Read:
    """Return what reads with obstore."""
    obstore = import_module("obstore")
    return threaded(lambda start, size: len(obstore.get_range(store, "a.tar", start=start, length=size)))


def urllib3_reader(url: str) -> Read:
    """Return what reads with urllib3."""
    pool = import_module("urllib3").PoolManager(maxsize=NUM_AT_ONCE)
    return threaded(lambda start, size: len(pool.request("GET", url, headers=_range(start, size)).data))


def fsspec_reader(scheme: str, path: str, *, module: str, **settings: Any) -> Read:
    """Return what reads with a file system of fsspec, which needs a module."""
    import_module(module)
    files = import_module("fsspec").filesystem(scheme, **settings)

    def read(ranges: Ranges) -> int:
        starts, ends = [start for start, _ in ranges], [start + size for start, size in ranges]
        return sum(map(len, files.cat_ranges([path] * len(ranges), starts, ends, batch_size=NUM_AT_ONCE)))

    return read


def _range(start: int, size: int) -> dict[str, str]:
    return {"Range": f"bytes={start}-{start + size - 1}"}


if __name__ == "__main__":
    main()
