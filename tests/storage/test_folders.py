"""Folders are listed while other programs change them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.servers.answers import Request
from tests.servers.fault import fault_server
from tests.sharding.buckets import open_bucket
from wds_bone.objects.clients import client_of, close_clients
from wds_bone.storage.folders import file_sizes


def test_a_file_that_another_program_deletes_meanwhile_is_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "kept").write_bytes(b"123")
    (tmp_path / "gone").touch()
    (tmp_path / "folder").mkdir()
    scan = os.scandir

    @contextmanager
    def scan_and_delete(folder: Path) -> Iterator[list[os.DirEntry[str]]]:
        with scan(folder) as entries:
            found = list(entries)
        (tmp_path / "gone").unlink()
        yield found

    monkeypatch.setattr(os, "scandir", scan_and_delete)
    assert file_sizes(tmp_path) == {"kept": 3}


def test_objects_that_are_deeper_below_a_prefix_are_not_listed(
    request: pytest.FixtureRequest, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("obstore", reason="the extra `s3` is not installed")
    prefix = open_bucket("s3", request, tmp_path, monkeypatch).prefix
    for path in (prefix / "b", prefix / "a", prefix / "deep" / "c", prefix / "deep" / "er" / "d"):
        client_of(path).write(path, b"123")
    requests: list[Request] = []
    with fault_server(s3_url, log=requests) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy)
        close_clients()
        assert file_sizes(prefix) == {"a": 3, "b": 3}
        assert client_of(prefix).names(prefix) == ["a", "b"]
    assert all("delimiter=" in listing.query for listing in requests)
