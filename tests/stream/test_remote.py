"""A stream of shards on a server delivers what a stream of local files does, byte for byte."""

import hashlib
import itertools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.sample_sets import write_set
from tests.servers.answers import Request
from tests.servers.fault import Fault, Faults, always, fault_server
from tests.servers.nginx import nginx
from tests.servers.s3 import s3_environment, upload_s3
from wds_bone import BoneAgeStream
from wds_bone.errors import ConfigError, ShardError
from wds_bone.remote import fetch, ready
from wds_bone.remote.opening import buffer_bytes
from wds_bone.stream.batch import Batch
from wds_bone.stream.selection import select_shards

TRAIN_COUNTS = [17, 3, 20, 11, 9, 14, 8, 15, 12, 13]
TIMEOUT_SECONDS = 300


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("remote") / "shards", size=64, encoding="npy", train=TRAIN_COUNTS, val=[6])


@pytest.fixture(scope="module")
def server(shards: Path) -> Iterator[str]:
    with nginx(shards) as url:
        yield url


@pytest.fixture(scope="module")
def bare(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The training shards alone, without a manifest and indexes."""
    folder = tmp_path_factory.mktemp("bare")
    for path in shards.glob("train-*.tar"):
        shutil.copy(path, folder)
    return folder


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the default cache out of the home folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "wds_bone"


def shard_bytes(shards: Path) -> int:
    return sum(path.stat().st_size for path in shards.glob("train-*.tar"))


def digest(batches: Iterator[Batch]) -> list[str]:
    """Return a digest of everything in each batch."""
    return [
        hashlib.sha256(
            repr((batch.key, batch.age_months.tolist(), batch.gender.tolist(), batch.weight.tolist())).encode()
            + batch.image.numpy().tobytes()
        ).hexdigest()
        for batch in batches
    ]


def epochs(shards: str | Path, num_epochs: int = 2, **settings: Any) -> list[str]:
    with BoneAgeStream(shards, split="train", batch_size=16, seed=5, **settings) as stream:
        return [text for _ in range(num_epochs) for text in digest(iter(stream))]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("cache", ["default", "small", "none"])
def test_batches_are_those_of_local_files(
    cache: str, threads: int, shards: Path, server: str, tmp_path: Path, cache_home: Path
) -> None:
    settings = {
        "default": {},
        "small": {"cache": tmp_path / "small", "cache_bytes": shard_bytes(shards) // 10},
        "none": {"cache": "none"},
    }[cache]
    assert epochs(server, threads=threads, **settings) == epochs(shards, threads=threads)
    assert bool(list(cache_home.glob("*.tar"))) == (cache == "default")
    kept = sum(path.stat().st_size for path in (tmp_path / "small").glob("*.*") if path.suffix in (".tar", ".part"))
    assert kept <= shard_bytes(shards) // 10


@pytest.mark.parametrize("settings", [{"shuffle_windows": 3}, {"shuffle_buffer": 30}, {"shuffle": False}])
def test_batches_are_those_of_local_files_in_every_order(
    settings: dict[str, Any], shards: Path, server: str, tmp_path: Path
) -> None:
    small = {"cache": tmp_path / "small", "cache_bytes": shard_bytes(shards) // 3}
    assert epochs(server, **settings, **small) == epochs(shards, **settings)


def test_a_part_of_the_samples_reads_shards_that_are_cached_for_all_of_them(shards: Path, server: str) -> None:
    def every_third(table: np.ndarray) -> np.ndarray:
        return np.arange(len(table)) % 3 == 0

    assert epochs(server, keep=every_third) == epochs(shards, keep=every_third)
    assert epochs(server) == epochs(shards)


def test_shards_without_a_manifest_are_scanned(bare: Path, shards: Path, cache_home: Path) -> None:
    with nginx(bare) as url, BoneAgeStream(f"{url}/train-{{000000..000002}}.tar", cache="none") as stream:
        expected = digest(iter(stream))
    with BoneAgeStream([shards / f"train-{number:06d}.tar" for number in range(3)]) as stream:
        assert digest(iter(stream)) == expected
    assert not cache_home.exists()


def bare_epochs(shards: str | list[Path], num_epochs: int = 2, **settings: Any) -> tuple[list[str], int]:
    """Return the digests of the batches of some epochs, and the number of bytes that were fetched."""
    with BoneAgeStream(shards, batch_size=16, **settings) as stream:
        return [text for _ in range(num_epochs) for text in digest(iter(stream))], stream.transfer().bytes_fetched


def test_shards_without_a_manifest_are_fetched_once_for_all_streams(bare: Path, cache_home: Path) -> None:
    paths = sorted(bare.glob("*.tar"))
    expected, _ = bare_epochs(paths)
    with nginx(bare) as server:
        urls = f"{server}/train-{{000000..000009}}.tar"
        assert bare_epochs(urls) == (expected, shard_bytes(bare))
        assert bare_epochs(urls) == (expected, 0)
        kept = sorted(cache_home.glob("*.tar"))
        assert sorted(path.read_bytes() for path in kept) == sorted(path.read_bytes() for path in paths)
        kept[0].write_bytes(bytes(kept[0].stat().st_size))
        assert bare_epochs(urls) == (expected, kept[0].stat().st_size)


def test_shards_without_a_manifest_may_be_larger_than_the_cache(bare: Path, tmp_path: Path) -> None:
    expected, _ = bare_epochs(sorted(bare.glob("*.tar")))
    small = {"cache": tmp_path / "small", "cache_bytes": shard_bytes(bare) // 2}
    with nginx(bare) as server:
        for _ in range(2):
            assert bare_epochs(f"{server}/train-{{000000..000009}}.tar", **small)[0] == expected
    assert sum(path.stat().st_size for path in (tmp_path / "small").iterdir()) <= shard_bytes(bare) // 2 + 10_000


def test_a_batch_by_its_number_and_a_loaded_state_are_those_of_local_files(shards: Path, server: str) -> None:
    with (
        BoneAgeStream(server, split="train", batch_size=16) as stream,
        BoneAgeStream(shards, split="train", batch_size=16) as local,
    ):
        assert digest(iter([stream[2], stream[-1]])) == digest(iter([local[2], local[-1]]))
        for _ in itertools.islice(stream.endless(), 11):
            pass
        local.load_state_dict(stream.state_dict())
        ahead = (digest(itertools.islice(each.endless(), 5)) for each in (stream, local))
        assert next(ahead) == next(ahead)


def test_a_stream_counts_what_it_moves(shards: Path, server: str) -> None:
    with BoneAgeStream(server, split="train", batch_size=16) as stream:
        assert len(digest(iter(stream))) == len(stream)
        first = stream.transfer()
        assert first.bytes_fetched <= shard_bytes(shards) * 1.1
        assert first.retries == 0
        digest(iter(stream))
        assert stream.transfer().bytes_fetched <= shard_bytes(shards) * 1.1
        assert stream.transfer().cache_hits >= stream.num_samples
        assert first.bytes_fetched > shard_bytes(shards)  # the manifest and the indexes, too
    with BoneAgeStream(shards, split="train", batch_size=16) as local:
        assert local.transfer().bytes_fetched == 0


def test_the_memory_of_what_is_on_its_way_is_counted(shards: Path, server: str) -> None:
    remote, local = (select_shards(name, split="train").stored for name in (server, shards))
    assert buffer_bytes(remote) == shard_bytes(shards)
    assert buffer_bytes(local) == 0
    assert buffer_bytes([replace(remote[0], num_bytes=2**40)]) == ready.MAX_BYTES_READY + fetch.MAX_BYTES_IN_FLIGHT


def flip_once(name: str, byte: int) -> Faults:
    """Flip a bit of the first answer that contains a byte."""
    turns = iter([1])

    def flip(request: Request) -> Fault | None:
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("Range", ""))
        if not request.path.endswith(name) or not found or not int(found[1]) <= byte <= int(found[2]):
            return None
        return Fault(flip_bit=8 * byte) if next(turns, None) else None

    return flip


@pytest.mark.fault("C10")
@pytest.mark.parametrize("cache", [None, "none"])
def test_a_bit_that_is_flipped_on_its_way_is_fetched_again(cache: str | None, shards: Path) -> None:
    with BoneAgeStream(shards, split="train", batch_size=16) as local:
        byte = int(local.table["offset"][5]) + 100
    with fault_server(shards, flip_once("train-000000.tar", byte)) as url:
        assert epochs(url, cache=cache) == epochs(shards)


@pytest.mark.fault("C10")
def test_a_bit_that_is_flipped_in_the_store_is_an_error_with_the_member(shards: Path) -> None:
    with BoneAgeStream(shards, split="train", batch_size=16) as local:
        bit, key = 8 * (int(local.table["offset"][5]) + 100), local.keys()[5]
    with (
        fault_server(shards, always(Fault(flip_bit=bit), path="train-000000.tar")) as url,
        pytest.raises(
            ShardError, match=rf"(?s)train-000000.tar: (sample '{key}' fails its checksum|its contents are not)"
        ),
    ):
        epochs(url)


@pytest.mark.fault("C7")
def test_a_stall_names_the_server(shards: Path) -> None:
    def stall(request: Request) -> Fault | None:
        is_read = request.path.endswith(".tar") and request.header("Range") != "bytes=0-0"
        return Fault(delay_seconds=3600) if is_read else None

    with (
        fault_server(shards, stall) as url,
        BoneAgeStream(url, split="train", batch_size=16, cache="none") as stream,
    ):
        stream._loader.stall_seconds = 1.0
        with pytest.raises(ShardError, match=rf"(?s){url}/train-\d+.tar: .*has stalled.*check the network and {url}, "):
            next(iter(stream))


def test_local_and_remote_shards_in_one_stream_are_refused(shards: Path, server: str) -> None:
    with pytest.raises(ConfigError, match="some shards are local and others are not"):
        BoneAgeStream([str(shards / "train-000000.tar"), f"{server}/train-000001.tar"])


# Prints the digest of each batch of an epoch; may be one of several ranks, and may kill itself.
READ = """
import os, sys
from tests.stream.test_remote import digest
from wds_bone import BoneAgeStream
url, rank, world_size, dies_at, cache = sys.argv[1], *map(int, sys.argv[2:5]), sys.argv[5]
with BoneAgeStream(url, split="train", batch_size=16, seed=5, rank=rank, world_size=world_size, cache=cache) as stream:
    print("opened", flush=True)
    sys.stdin.readline()
    for number, batch in enumerate(stream):
        print(*digest([batch]), flush=True)
        if number + 1 == dies_at:
            os.kill(os.getpid(), 9)
    print(stream.transfer(), flush=True)
"""


def reader(url: str, cache: Path, *, rank: int = 0, world_size: int = 1, dies_at: int = 0) -> subprocess.Popen[str]:
    """Start a process that waits for a line before it reads."""
    numbers = map(str, (rank, world_size, dies_at))
    process = subprocess.Popen(
        [sys.executable, "-c", READ, url, *numbers, str(cache)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "opened\n"
    return process


@pytest.mark.slow
@pytest.mark.fault("C13")
@pytest.mark.parametrize("world_size", [1, 2])
def test_all_processes_of_a_host_fetch_each_shard_once(world_size: int, shards: Path, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with nginx(shards, log=log) as url:
        readers = [reader(url, tmp_path / "cache", rank=rank % world_size, world_size=world_size) for rank in range(2)]
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda process: process.communicate("go\n", timeout=TIMEOUT_SECONDS), readers))
    assert [(process.returncode, error) for process, (_, error) in zip(readers, answers, strict=True)] == [(0, "")] * 2
    if world_size == 1:
        assert all(output.splitlines()[:-1] == epochs(shards, 1) for output, _ in answers)
    sent = re.findall(r"GET /train-\d+.tar 206 (\d+)", log.read_text())
    assert sum(map(int, sent)) <= 1.05 * shard_bytes(shards)
    assert len(list((tmp_path / "cache").glob("*.tar"))) == len(TRAIN_COUNTS)


@pytest.mark.slow
@pytest.mark.fault("C13")
def test_a_run_that_was_killed_continues_with_what_it_has_fetched(shards: Path, server: str, tmp_path: Path) -> None:
    killed = reader(server, tmp_path / "cache", dies_at=3)
    output, _ = killed.communicate("go\n", timeout=TIMEOUT_SECONDS)
    assert killed.returncode == -9
    assert output.splitlines() == epochs(shards, 1)[:3]
    again = reader(server, tmp_path / "cache")
    output, error = again.communicate("go\n", timeout=TIMEOUT_SECONDS)
    assert (again.returncode, error) == (0, "")
    assert output.splitlines()[:-1] == epochs(shards, 1)
    assert int(re.findall(r"bytes_fetched=(\d+)", output)[0]) < shard_bytes(shards)


def has_mounts() -> bool:
    if os.geteuid() != 0 or not shutil.which("unshare"):
        return False
    mount = "mount -t tmpfs tmpfs /tmp"
    return subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True, timeout=20).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not has_mounts(), reason="needs root and unshare to mount a small disk")
@pytest.mark.fault("C13")
@pytest.mark.parametrize("size", ["4k", "200k"])
def test_a_full_disk_is_reported_once_and_the_rest_is_read_without_the_cache(
    size: str, shards: Path, server: str, tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    script = f'mount -t tmpfs -o size={size} tmpfs {tmp_path}/disk; exec "$@"'
    command = [
        sys.executable,
        "-c",
        READ.replace("cache=cache", "cache=cache, cache_bytes=2**40"),
        server,
        "0",
        "1",
        "0",
    ]
    run = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "-", *command, str(tmp_path / "disk" / "cache")],
        input="go\n",
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[1:-1] == epochs(shards, 1)
    assert run.stderr.count("the disk is full") == 1


@pytest.mark.slow
def test_batches_from_s3_are_those_of_local_files(s3_url: str, shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = upload_s3(s3_url, shards, bucket="stream", prefix="sets/one/")
    for name, value in s3_environment(s3_url).items():
        monkeypatch.setenv(name, value)
    expected = epochs(shards)
    assert epochs(url) == expected
    assert epochs(url, cache="none") == expected
