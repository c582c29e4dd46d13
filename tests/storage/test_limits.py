"""Test that the limit of the system that was hit is named."""

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from wds_bone.errors import ShardError, WdsBoneError
from wds_bone.storage.durable import write_bytes_atomically
from wds_bone.storage.limits import limit_of
from wds_bone.storage.local import LocalStorage


@contextmanager
def no_more_open_files() -> Iterator[None]:
    """Set the limit of open files so that none can be opened."""
    usual, lowest_free = resource.getrlimit(resource.RLIMIT_NOFILE), os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, usual)


@pytest.mark.fault("B7")
def test_too_many_open_files_are_reported_with_the_limit_when_writing_and_when_reading(tmp_path: Path):
    (tmp_path / "train-000000.tar").write_bytes(b"x")
    with no_more_open_files(), pytest.raises(WdsBoneError, match=r"Too many open files(?s:.*)`ulimit -n 4096`"):
        write_bytes_atomically(tmp_path / "last.pt", b"x")
    with (
        closing(LocalStorage([tmp_path / "train-000000.tar"])) as storage,
        no_more_open_files(),
        pytest.raises(ShardError, match=r"Too many open files(?s:.*)open files, the limit of a process") as refused,
    ):
        storage.read(0, 0, size=1, into=[memoryview(bytearray(1))])
    assert "ulimit -n" in refused.value.do


@pytest.mark.fault("B2")
def test_a_disk_without_inodes_is_not_called_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(f_files=1000, f_favail=0))
    limit = limit_of(OSError(errno.ENOSPC, ""), tmp_path / "last.pt")
    assert limit is not None
    assert limit.got == "no free inodes"


@pytest.mark.fault("B7")
def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    limit = limit_of(OSError(errno.ENOTDIR, ""), tmp_path / "file" / "a" / "b")
    assert limit is not None
    assert limit.got == f"{tmp_path / 'file'} is a file"


@pytest.mark.fault("B7")
def test_a_path_that_is_too_long_although_no_name_is_shows_the_length_of_the_path(tmp_path: Path):
    path = tmp_path.joinpath(*["x" * 200] * 25)
    limit = limit_of(OSError(errno.ENAMETOOLONG, ""), path)
    assert limit is not None
    assert limit.got == f"a path of {len(str(path)):,} bytes"


def test_an_error_that_is_not_about_a_limit_has_none(tmp_path: Path):
    assert limit_of(OSError(errno.EIO, ""), tmp_path) is None
