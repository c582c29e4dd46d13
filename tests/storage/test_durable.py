import errno
import os
import stat
from pathlib import Path

import pytest

from tests.sharding.film_sets import names_in
from wds_bone.errors import ShardError, WdsBoneError
from wds_bone.storage.durable import read_parsed, storage_errors, write_atomically, write_bytes_atomically


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


def test_a_full_disk_is_reported_with_the_number_of_free_bytes(tmp_path: Path):
    def write(stream):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(WdsBoneError) as caught:
        write_atomically(tmp_path / "shard.tar", write)
    assert "shard.tar" in str(caught.value)
    assert "bytes free" in str(caught.value)
    assert "run the same command again" in str(caught.value)


def test_a_device_that_is_always_full_is_reported(tmp_path: Path):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with (
        pytest.raises(WdsBoneError, match="No space left"),
        storage_errors(tmp_path / "shard.tar"),
        Path("/dev/full").open("wb", buffering=0) as stream,
    ):
        stream.write(b"x")


def test_the_temporary_file_of_a_killed_process_is_overwritten(tmp_path: Path):
    (tmp_path / "shard.tar.tmp").write_bytes(b"half a shard, longer than the new one")
    write_bytes_atomically(tmp_path / "shard.tar", b"whole")
    assert (tmp_path / "shard.tar").read_bytes() == b"whole"
    assert names_in(tmp_path) == ["shard.tar"]


def test_a_symbolic_link_with_the_name_of_the_temporary_file_is_not_followed(tmp_path: Path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "shard.tar.tmp").symlink_to(victim)
    write_bytes_atomically(tmp_path / "shard.tar", b"shard")
    assert victim.read_bytes() == b"precious"
    assert not (tmp_path / "shard.tar").is_symlink()


def test_a_missing_folder_is_an_error_that_names_the_file(tmp_path: Path):
    with pytest.raises(WdsBoneError, match=r"nowhere/shard\.tar: cannot be written"):
        write_bytes_atomically(tmp_path / "nowhere" / "shard.tar", b"shard")


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
