"""Shards in object storage that have no manifest."""

from pathlib import Path

import pytest

from tests.sample_sets import write_set
from tests.servers.answers import Request
from tests.servers.fault import Fault, always, fault_server, in_turn
from wds_bone.errors import ShardError
from wds_bone.objects.url import parse_url
from wds_bone.remote.opening import CacheSettings
from wds_bone.shards.located import read_shards

FLIPPED = Fault(flip_bit=8 * 150)
"""A bit in the header of the first member."""


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """A shard alone."""
    written = write_set(tmp_path / "set", size=32, encoding="npy", train=[3], val=[2]) / "train-000000.tar"
    (tmp_path / "bare").mkdir()
    return written.rename(tmp_path / "bare" / written.name)


def cached(tmp_path: Path) -> CacheSettings:
    return CacheSettings(tmp_path / "cache", None)


def test_a_bit_that_was_flipped_on_its_way_is_not_kept(shard: Path, tmp_path: Path):
    expected = read_shards([shard], None)[0].sha256
    with fault_server(shard.parent, in_turn(FLIPPED)) as root:
        url = parse_url(f"{root}/{shard.name}")
        assert read_shards([url], cached(tmp_path))[0].sha256 == expected
        assert not list((tmp_path / "cache").glob("*.tar"))
        assert read_shards([url], cached(tmp_path))[0].sha256 == expected
    assert [path.name for path in (tmp_path / "cache").glob("*.tar")] == [f"{expected}.tar"]


def test_a_damaged_shard_is_fetched_once_more_and_then_an_error(shard: Path, tmp_path: Path):
    log: list[Request] = []
    damaged = always(FLIPPED, path=".tar")
    with fault_server(shard.parent, damaged, log=log) as root, pytest.raises(ShardError, match="header"):
        read_shards([parse_url(f"{root}/{shard.name}")], cached(tmp_path))
    opened = [request for request in log if request.header("Range") == "bytes=0-" and not request.header("If-Range")]
    assert [request.path for request in opened].count("/train-000000.tar") == 2
    assert not list((tmp_path / "cache").glob("*.tar"))


def test_a_shard_that_is_missing_is_an_error_before_another_one_is_downloaded(shard: Path, tmp_path: Path):
    log: list[Request] = []
    with fault_server(shard.parent, log=log) as root, pytest.raises(ShardError, match="missing"):
        read_shards([parse_url(f"{root}/{name}") for name in (shard.name, "missing.tar")], cached(tmp_path))
    assert {request.header("Range") for request in log if request.path.endswith(".tar")} == {"bytes=0-0"}
