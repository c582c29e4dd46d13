import errno
import os
import resource
import secrets
import stat
from pathlib import Path

import pytest

from tests.sharding.film_sets import names_in
from wds_bone.errors import ShardError, WdsBoneError
from wds_bone.storage.durable import (
    read_parsed,
    storage_error,
    storage_errors,
    write_atomically,
    write_bytes_atomically,
)


@pytest.mark.fault("B1", "F1")
def test_a_file_has_its_old_contents_until_the_new_ones_are_complete(tmp_path: Path):
    path = tmp_path / "manifest.json"
    path.write_bytes(b"old")

    def write(stream):
        stream.write(b"new, first part")
        stream.flush()
        assert path.read_bytes() == b"old"
        stream.write(b" and the rest")

    write_atomically(path, write)
    assert path.read_bytes() == b"new, first part and the rest"
    assert names_in(tmp_path) == ["manifest.json"]


@pytest.mark.fault("B2")
@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("a bug"), KeyboardInterrupt()]
)
def test_a_failed_write_leaves_neither_the_file_nor_the_temporary_file(tmp_path: Path, error: BaseException):
    def write(stream):
        stream.write(b"part")
        raise error

    with pytest.raises((WdsBoneError, RuntimeError, KeyboardInterrupt)):
        write_atomically(tmp_path / "shard.tar", write)
    assert names_in(tmp_path) == []


@pytest.mark.fault("B2")
def test_a_full_disk_is_reported_with_the_number_of_free_bytes(tmp_path: Path):
    def write(stream):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(WdsBoneError) as caught:
        write_atomically(tmp_path / "shard.tar", write)
    assert "shard.tar" in str(caught.value)
    assert "bytes free" in str(caught.value)
    assert "run the same command again" in str(caught.value)


@pytest.mark.fault("B2")
def test_a_device_that_is_always_full_is_reported(tmp_path: Path):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with (
        pytest.raises(WdsBoneError, match="No space left"),
        storage_errors(tmp_path / "shard.tar"),
        Path("/dev/full").open("wb", buffering=0) as stream,
    ):
        stream.write(b"x")


@pytest.mark.fault("E6", "F1")
def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path):
    def write(stream):
        stream.write(b"first")
        write_bytes_atomically(tmp_path / "last.pt", b"second")
        assert (tmp_path / "last.pt").read_bytes() == b"second"

    write_atomically(tmp_path / "last.pt", write)
    assert (tmp_path / "last.pt").read_bytes() == b"first"
    assert names_in(tmp_path) == ["last.pt"]


@pytest.mark.fault("I3")
def test_a_symbolic_link_with_the_name_of_the_temporary_file_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    monkeypatch.setattr(secrets, "token_hex", lambda num_bytes: "00" * num_bytes)
    (tmp_path / "shard.tar.00000000.tmp").symlink_to(victim)
    with pytest.raises(WdsBoneError, match="cannot be written: File exists"):
        write_bytes_atomically(tmp_path / "shard.tar", b"shard")
    assert victim.read_bytes() == b"precious"
    assert not (tmp_path / "shard.tar").exists()


@pytest.mark.fault("B7")
@pytest.mark.parametrize("name", ["EINVAL", "ENOTSUP", "EOPNOTSUPP", "ENOSYS"])
def test_a_file_system_that_cannot_sync_folders_works_with_one_warning(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def fsync(_descriptor: int) -> None:
        raise OSError(getattr(errno, name), os.strerror(getattr(errno, name)))

    monkeypatch.setattr(os, "fsync", fsync)
    for contents in (b"old", b"new"):
        write_bytes_atomically(tmp_path / "last.pt", contents)
        assert (tmp_path / "last.pt").read_bytes() == contents
    assert capsys.readouterr().err.count(f"warning: {tmp_path}: this file system cannot sync its files") == 1


@pytest.mark.fault("B2", "B7")
@pytest.mark.parametrize(
    ("name", "limit", "remedy"),
    [
        ("ENOSPC", "bytes free", "free some space"),
        ("EDQUOT", "quota is used up", "`quota -s`"),
        ("EMFILE", f"{resource.getrlimit(resource.RLIMIT_NOFILE)[0]:,} open files", "`ulimit -n 4096`"),
        ("ENFILE", "whole system", "sysctl fs.file-max"),
        ("EROFS", "mounted read-only", "another disk"),
        ("EFBIG", "largest file", "`ulimit -f unlimited`"),
        ("EACCES", "EACCES", "check the folder"),
    ],
)
def test_a_failed_write_names_the_limit_that_was_hit(tmp_path: Path, name: str, limit: str, remedy: str):
    code = getattr(errno, name)
    error = storage_error(tmp_path / "new" / "shard.tar", OSError(code, os.strerror(code)))
    assert f"shard.tar: cannot be written: {os.strerror(code)}" in str(error)
    assert limit in str(error)
    assert remedy in error.do


def test_a_missing_folder_is_an_error_that_names_the_file(tmp_path: Path):
    with pytest.raises(WdsBoneError, match=r"nowhere/shard\.tar: cannot be written"):
        write_bytes_atomically(tmp_path / "nowhere" / "shard.tar", b"shard")


@pytest.mark.fault("B3")
def test_an_error_in_syncing_the_folder_is_reported_although_the_file_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "Input/output error")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(WdsBoneError, match=r"shard\.tar: cannot be written"):
        write_bytes_atomically(tmp_path / "shard.tar", b"new")
    assert names_in(tmp_path) == ["shard.tar"]


def test_the_error_for_an_unreadable_file_says_what_to_do(tmp_path: Path):
    with pytest.raises(ShardError, match=r"notes: cannot be read: No such file(?s:.*)do: +write it"):
        read_parsed(tmp_path / "notes", bytes.decode, do="write it")
