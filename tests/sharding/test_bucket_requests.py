"""The requests to object storage are few, and are made many at once, because each of them takes time."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.servers.answers import Request
from tests.servers.fault import fault_server
from tests.sharding.buckets import Bucket, files_in, open_bucket
from tests.sharding.film_sets import make, write_films
from wds_bone.objects.clients import close_clients
from wds_bone.shards.manifest import INDEX_SUFFIX

pytest.importorskip("obstore", reason="the extra `s3` is not installed")
NUM_SHARDS = 12
MOST_PER_SHARD = 21


@pytest.fixture
def s3(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    return open_bucket("s3", request, tmp_path, monkeypatch)


@contextmanager
def requests_to(server: str, watch: Callable[[Request], None] = lambda _: None) -> Iterator[list[Request]]:
    """Send all requests to a server through a proxy that calls `watch` for each, and yield them."""
    found: list[Request] = []
    with pytest.MonkeyPatch.context() as patch, fault_server(server, watch, log=found) as proxy:
        patch.setenv("AWS_ENDPOINT_URL", proxy)
        close_clients()
        yield found
    close_clients()


def arguments(tmp_path: Path) -> list[str]:
    return [*write_films(tmp_path / "films", 2 * NUM_SHARDS), "--split", "train", "--samples-per-shard", "2"]


def make_at(out: object, *words: str) -> int:
    return make(out, *words)  # type: ignore[arg-type]


def test_a_run_that_has_nothing_to_do_reads_each_index_once_and_lists_the_set_once(
    tmp_path: Path, s3: Bucket, s3_url: str, capsys: pytest.CaptureFixture[str]
):
    films, out = arguments(tmp_path), s3.prefix / "set"
    assert make_at(out, *films) == 0
    with requests_to(s3_url) as found:
        assert make_at(out, *films) == 0
    assert "already complete; nothing was written" in capsys.readouterr().out
    by_suffix = Counter(request.path.rpartition(".")[2] for request in found if "/train-" in request.path)
    assert by_suffix == {"npy": NUM_SHARDS, "idx": NUM_SHARDS}
    assert len(found) <= 2 * NUM_SHARDS + 14, [f"{request.method} {request.path}" for request in found]
    writes = [request.path.rpartition("/")[2] for request in found if request.method == "PUT"]
    assert writes == ["make_shards.lock"]


def test_the_requests_of_a_run_grow_by_a_constant_with_each_shard(tmp_path: Path, s3: Bucket, s3_url: str):
    films, counts = arguments(tmp_path), list[int]()
    for per_shard in (2, 4):
        with requests_to(s3_url) as found:
            assert make_at(s3.prefix / f"set-{per_shard}", *films, "--samples-per-shard", str(per_shard)) == 0
        counts.append(len(found))
    assert counts[0] - counts[1] <= MOST_PER_SHARD * NUM_SHARDS // 2


def test_indexes_are_read_many_at_once(tmp_path: Path, s3: Bucket, s3_url: str):
    films, out, together = arguments(tmp_path), s3.prefix / "set", threading.Barrier(4, timeout=60)
    assert make_at(out, *films) == 0

    def wait_for_others(request: Request) -> None:
        if request.path.endswith(INDEX_SUFFIX):
            together.wait()

    with requests_to(s3_url, wait_for_others):
        assert make_at(out, *films) == 0
    assert not together.broken


@pytest.mark.parametrize("suffix", [".png", ""], ids=["known by suffix", "opened while planning"])
def test_films_are_read_many_at_once(tmp_path: Path, s3: Bucket, s3_url: str, suffix: str):
    films = write_films(tmp_path / "films", 24)
    for path in (tmp_path / "films").glob("*.png"):
        path.rename(path.with_suffix(suffix))
    assert make(tmp_path / "local", *films, "--split", "train", "--samples-per-shard", "24") == 0
    url, together = s3.upload(tmp_path / "films", "films"), threading.Barrier(6, timeout=60)

    def wait_for_others(request: Request) -> None:
        if request.method == "GET" and "/hand-" in request.path:
            together.wait()

    with requests_to(s3_url, wait_for_others) as found:
        remote = ["--labels", f"{url}/labels.csv", "--images", url, "--split", "train", "--samples-per-shard", "24"]
        assert make(tmp_path / "out", *remote) == 0
    assert files_in(tmp_path / "out") == files_in(tmp_path / "local")
    read = Counter(request.path for request in found if request.method == "GET" and "/hand-" in request.path)
    assert set(read.values()) == {1 if suffix else 2}
