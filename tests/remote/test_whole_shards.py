"""Shards without an index are fetched once, and nothing wrong is kept."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.remote.test_storage import DEADLINE_SECONDS, tars
from tests.servers.answers import Request
from tests.servers.fault import Fault, always, fault_server
from wds_bone.objects.url import parse_url
from wds_bone.remote.cache import Cache
from wds_bone.remote.whole_shards import WholeShards

CONTENTS = os.urandom(3_000_000)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "a.tar").write_bytes(CONTENTS)
    return tmp_path / "store"


def read(cache: Cache, root: str, name: str = "a.tar") -> bytes | None:
    file = WholeShards(cache).open(parse_url(f"{root}/{name}"))
    if file is None:
        return None
    with file:
        return file.read()


def downloads(log: list[Request]) -> list[str]:
    return [request.path for request in log if request.header("Range") != "bytes=0-0"]


def test_processes_that_begin_together_fetch_a_shard_once(store: Path, tmp_path: Path) -> None:
    log: list[Request] = []
    both = threading.Barrier(2)

    def begin(root: str) -> bytes | None:
        cache = Cache(tmp_path / "cache")
        both.wait(DEADLINE_SECONDS)
        return read(cache, root)

    slow = always(Fault(bytes_per_second=6e6))
    with fault_server(store, slow, log=log) as root, ThreadPoolExecutor(2) as pool:
        assert list(pool.map(begin, [root] * 2, timeout=DEADLINE_SECONDS)) == [CONTENTS] * 2
    assert downloads(log) == ["/a.tar"]


def test_a_shard_that_was_replaced_is_another_one(store: Path, tmp_path: Path) -> None:
    with fault_server(store) as root:
        assert read(Cache(tmp_path / "cache"), root) == CONTENTS
        (store / "a.tar").write_bytes(CONTENTS[::-1])
        assert read(Cache(tmp_path / "cache"), root) == CONTENTS[::-1]
    assert len(tars(tmp_path / "cache")) == 2


def test_a_shard_whose_store_names_no_versions_is_not_kept(store: Path, tmp_path: Path) -> None:
    with fault_server(store, always(Fault(headers={"ETag": "W/x"}))) as root:
        assert read(Cache(tmp_path / "cache"), root) is None
    assert not tars(tmp_path / "cache")


def test_what_was_kept_makes_no_room_for_the_next_one(store: Path, tmp_path: Path) -> None:
    (store / "b.tar").write_bytes(CONTENTS[::-1])
    whole = WholeShards(Cache(tmp_path / "cache", len(CONTENTS) + 1000))
    with fault_server(store) as root:
        first = whole.open(parse_url(f"{root}/a.tar"))
        assert first is not None
        first.close()
        assert whole.open(parse_url(f"{root}/b.tar")) is None
        assert [path.read_bytes() for path in tars(tmp_path / "cache")] == [CONTENTS]
        assert read(Cache(tmp_path / "cache", len(CONTENTS) + 1000), root, "b.tar") == CONTENTS[::-1]


def test_a_transfer_that_fails_leaves_nothing(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wds_bone.objects.retries.TIMEOUT_SECONDS", 0.5)

    def cut(request: Request) -> Fault | None:
        return Fault(cut_at=0) if request.header("Range") != "bytes=0-0" else None

    with fault_server(store, cut) as root, pytest.raises(OSError, match="the answer ends"):
        read(Cache(tmp_path / "cache"), root)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["cache.lock"]


def test_records_of_shards_that_are_gone_are_deleted(store: Path, tmp_path: Path) -> None:
    with fault_server(store) as root:
        assert read(Cache(tmp_path / "cache"), root) == CONTENTS
    Cache(tmp_path / "cache")
    assert len(list((tmp_path / "cache").glob("*.digest"))) == 1
    tars(tmp_path / "cache")[0].unlink()
    Cache(tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.digest"))
