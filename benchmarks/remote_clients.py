"""Which library should read byte ranges of shards from servers?

    python -m benchmarks.remote_clients [--rounds 5] [--num-requests 1000]

Every candidate reads the same ranges of 10 to 40 kB, 32 at a time: from nginx over HTTP, and from moto's S3 server.
Measures ranges per second and the CPU time of the client per range, in interleaved rounds; then what each candidate
returns when the server closes the connection in the middle of a body. Needs nginx, moto and s3fs; what is missing is
left out. moto is slower than any client, so only the CPU time is compared there.

Result (two shared cores): see `benchmarks/results/remote_clients.json`, and ARCHITECTURE.md for what was chosen.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import create_server
from threading import Thread

from benchmarks.rounds import RESULTS
from wds_bone.storage.http_objects import HttpObjects
from wds_bone.storage.url import parse_url

NUM_AT_ONCE = 32
OBJECT_BYTES = 4 * 2**20  # moto copies the whole object for every range
Ranges = list[tuple[int, int]]
Read = Callable[[Ranges], int]
KEYS = {"access_key_id": "test", "secret_access_key": "test", "region": "us-east-1"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--num-requests", type=int, default=1000)
    options = parser.parse_args()
    generator = random.Random(0)
    sizes = [generator.randrange(10_000, 40_000) for _ in range(options.num_requests)]
    ranges = [(generator.randrange(OBJECT_BYTES - size), size) for size in sizes]
    found = {}
    with tempfile.TemporaryDirectory() as folder, nginx(Path(folder)) as http, moto() as s3:
        for server, candidates in (("nginx", http_candidates(http)), ("moto", s3_candidates(s3))):
            found[server] = measure(candidates, ranges, num_rounds=options.rounds)
            print_results(server, found[server])
    with cutting_server() as http:
        found["cut body"] = {name: after_cut(read) for name, read in http_candidates(http).items()}
    print(json.dumps(found["cut body"], indent=2))
    (RESULTS / "remote_clients.json").write_text(json.dumps(found, indent=2) + "\n")


def measure(candidates: dict[str, Read], ranges: Ranges, *, num_rounds: int) -> dict[str, dict[str, float]]:
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in candidates}
    for number in range(num_rounds + 1):
        for name, read in candidates.items():
            wall, cpu = time.perf_counter(), time.process_time()
            assert read(ranges) == sum(size for _, size in ranges)
            if number:  # the first round warms up
                samples[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {
        name: {
            "ranges_per_second": len(ranges) / statistics.median(wall for wall, _ in pairs),
            "cpu_microseconds": 1e6 * statistics.median(cpu for _, cpu in pairs) / len(ranges),
        }
        for name, pairs in samples.items()
    }


def print_results(server: str, results: dict[str, dict[str, float]]) -> None:
    for name, result in results.items():
        print(f"{server:6} {name:28} {result['ranges_per_second']:7,.0f} /s {result['cpu_microseconds']:7,.0f} us CPU")


def after_cut(read: Read) -> str:
    """Return what a candidate does when the body of every first answer is cut."""
    try:
        return f"{read([(0, 20_000)]):,} of 20,000 bytes"
    except Exception as error:
        return f"{type(error).__name__}"


def http_candidates(root: str) -> dict[str, Read]:
    from obstore.store import HTTPStore

    ours, url = HttpObjects(), parse_url(f"{root}/a.tar")
    candidates = {
        "wds_bone (urllib3)": threaded(lambda start, size: len(ours.read(url, start, size))),
        "obstore": obstore_reader(HTTPStore.from_url(root, client_options={"allow_http": True})),
    }
    with suppress(ImportError):
        candidates["fsspec (aiohttp)"] = fsspec_reader("http", f"{root}/a.tar")
    return candidates


def s3_candidates(root: str) -> dict[str, Read]:
    import obstore
    from obstore.store import S3Store

    store = S3Store(
        "bucket", endpoint=root, client_options={"allow_http": True}, virtual_hosted_style_request=False, **KEYS
    )
    obstore.put(store, "a.tar", bytes(OBJECT_BYTES))
    signed = parse_url(obstore.sign(store, "GET", "a.tar", expires_in=__import__("datetime").timedelta(hours=1)))
    ours = HttpObjects()
    candidates = {
        "obstore": obstore_reader(store),
        "obstore signs, urllib3 reads": threaded(lambda start, size: len(ours.read(signed, start, size))),
    }
    with suppress(ImportError):
        candidates["s3fs"] = fsspec_reader("s3", "bucket/a.tar", key="test", secret="test", endpoint_url=root)
    return candidates


def threaded(read_one: Callable[[int, int], int]) -> Read:
    def read(ranges: Ranges) -> int:
        with ThreadPoolExecutor(NUM_AT_ONCE) as pool:
            return sum(pool.map(lambda part: read_one(*part), ranges))

    return read


def obstore_reader(store: object) -> Read:
    import obstore

    return threaded(lambda start, size: len(obstore.get_range(store, "a.tar", start=start, length=size)))


def fsspec_reader(scheme: str, path: str, **settings: object) -> Read:
    import importlib

    import fsspec

    importlib.import_module({"http": "aiohttp", "s3": "s3fs"}[scheme])
    files = fsspec.filesystem(scheme, **settings)

    def read(ranges: Ranges) -> int:
        starts, ends = [start for start, _ in ranges], [start + size for start, size in ranges]
        return sum(map(len, files.cat_ranges([path] * len(ranges), starts, ends, batch_size=NUM_AT_ONCE, max_gap=None)))

    return read


@contextmanager
def nginx(folder: Path) -> Iterator[str]:
    folder.chmod(0o755)  # the workers of nginx are another user
    (folder / "a.tar").write_bytes(bytes(OBJECT_BYTES))
    port = free_port()
    temporary = "".join(
        f"{name}_temp_path {folder}/{name}; " for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"worker_processes 1; daemon off; pid {folder}/pid; error_log stderr; events {{ worker_connections 512; }} "
        f"http {{ access_log off; {temporary} sendfile on; keepalive_requests 1000000; "
        f"server {{ listen 127.0.0.1:{port}; root {folder}; }} }}"
    )
    with server(["nginx", "-c", str(folder / "nginx.conf")], port):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def moto() -> Iterator[str]:
    import urllib3

    port = free_port()
    with server([str(Path(sys.executable).parent / "moto_server"), "-p", str(port)], port):
        root = f"http://127.0.0.1:{port}"
        urllib3.request("PUT", f"{root}/bucket")
        yield root


@contextmanager
def server(command: list[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(port)
        yield
    finally:
        process.terminate()
        process.wait(timeout=10)


def wait_for(port: int) -> None:
    from socket import create_connection

    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(OSError), create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise TimeoutError


def free_port() -> int:
    with create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def cutting_server() -> Iterator[str]:
    """Serve ranges of zeros, of which every other answer ends in the middle."""
    count = iter(range(10**9))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            start, end = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end}/{OBJECT_BYTES}")
            self.send_header("Content-Length", str(end - start + 1))
            self.send_header("ETag", '"1"')
            self.end_headers()
            is_cut = next(count) % 2 == 0
            self.wfile.write(bytes((end - start + 1) // (2 if is_cut else 1)))
            self.close_connection = is_cut

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


if __name__ == "__main__":
    main()
