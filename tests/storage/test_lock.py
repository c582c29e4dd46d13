import errno
import fcntl
import multiprocessing
import os
import re
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from wds_bone.errors import ConfigError, WdsBoneError
from wds_bone.storage.durable import write_atomically
from wds_bone.storage.lock import Lock, folder_lock, lock_name

LOCK_NAME = lock_name("make-shards")


@pytest.mark.fault("B5")
def test_a_second_writer_is_refused_with_the_process_and_host_of_the_first(tmp_path: Path):
    with folder_lock(tmp_path / "set", "make-shards"):
        with pytest.raises(ConfigError) as caught, folder_lock(tmp_path / "set", "make-shards", wait_seconds=0.1):
            pytest.fail("two writers at once")
        assert f"process {os.getpid()} on {socket.gethostname()}" in str(caught.value)


def test_the_lock_is_free_again_after_the_block_and_after_an_error(tmp_path: Path):
    with pytest.raises(RuntimeError), folder_lock(tmp_path, "make-shards"):
        raise RuntimeError
    with folder_lock(tmp_path, "make-shards", wait_seconds=0):
        assert (tmp_path / LOCK_NAME).exists()
    assert not (tmp_path / LOCK_NAME).exists()


def test_a_folder_that_stays_empty_is_deleted_again(tmp_path: Path):
    with folder_lock(tmp_path / "a" / "run", "train"):
        pass
    assert not (tmp_path / "a" / "run").exists()
    with folder_lock(tmp_path / "run", "train"):
        (tmp_path / "run" / "last.pt").touch()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["last.pt"]


@pytest.mark.fault("E6")
def test_the_start_of_the_first_writer_is_named(tmp_path: Path):
    with folder_lock(tmp_path, "train"):
        with pytest.raises(ConfigError) as caught, folder_lock(tmp_path, "train", wait_seconds=0):
            pytest.fail("two trainings at once")
        assert re.search(
            rf"got: +process {os.getpid()} on \S+, started 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d", str(caught.value)
        )
        with folder_lock(tmp_path, "evaluate", wait_seconds=0):
            pass  # another command writes other files


@pytest.mark.fault("B5", "E6")
def test_a_lock_file_of_a_dead_process_or_of_another_host_is_taken_over(tmp_path: Path):
    for holder in ("process 999999999 on elsewhere, started 2020-01-01 00:00:00+00:00", "garbage", ""):
        (tmp_path / "train.lock").write_text(holder)
        with folder_lock(tmp_path, "train", wait_seconds=0):
            assert f"process {os.getpid()} on " in (tmp_path / "train.lock").read_text()


def test_a_writer_that_waited_for_a_lock_file_that_was_deleted_holds_the_new_one(tmp_path: Path):
    entered, end = threading.Event(), threading.Event()

    def second() -> None:
        with folder_lock(tmp_path, "train", wait_seconds=60):
            entered.set()
            end.wait(60)

    with folder_lock(tmp_path, "train"):
        thread = threading.Thread(target=second)
        thread.start()
        assert not entered.wait(0.2)
    assert entered.wait(60)
    with pytest.raises(ConfigError), folder_lock(tmp_path, "train", wait_seconds=0):
        pytest.fail("two trainings at once")
    end.set()
    thread.join(60)


@pytest.mark.fault("E6")
@pytest.mark.parametrize("name", ["ENOLCK", "ENOSYS", "EOPNOTSUPP"])
def test_a_file_system_without_locks_works_with_one_warning(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def flock(_descriptor: int, _operation: int) -> None:
        raise OSError(getattr(errno, name), os.strerror(getattr(errno, name)))

    monkeypatch.setattr(fcntl, "flock", flock)
    (tmp_path / "last.pt.0123abcd.tmp").touch()  # perhaps another process is writing it
    for _ in range(2):
        with folder_lock(tmp_path, "train"):
            pass
    assert capsys.readouterr().err.count("warning: ") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt.0123abcd.tmp"]


def test_what_a_killed_writer_left_is_deleted(tmp_path: Path):
    for name in ("last.pt.0123abcd.tmp", "last.pt", "mine.tmp"):
        (tmp_path / name).touch()
    with folder_lock(tmp_path, "train", files=["last.pt"]):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.pt", "mine.tmp"]


@pytest.mark.fault("E6")
def test_a_command_does_not_disturb_what_another_one_is_writing_in_the_folder(tmp_path: Path):
    def write_while_another_starts(stream: BinaryIO) -> None:
        with folder_lock(tmp_path, "evaluate", files=["metrics.json"]):
            stream.write(b"contents")

    with folder_lock(tmp_path, "train", files=["last.pt"]):
        write_atomically(tmp_path / "last.pt", write_while_another_starts)
    assert (tmp_path / "last.pt").read_bytes() == b"contents"


def hold(lock: Lock, ready: object, end: object) -> None:
    ready.set()  # type: ignore[attr-defined]
    end.wait(60)  # type: ignore[attr-defined]


def start_holder(lock: Lock) -> Callable[[], None]:
    """Start a process that holds the lock too, and return the function that ends it."""
    context = multiprocessing.get_context("forkserver")
    ready, end = context.Event(), context.Event()
    process = context.Process(target=hold, args=(lock, ready, end))
    process.start()
    assert ready.wait(60)

    def finish() -> None:
        end.set()
        process.join(60)

    return finish


def test_the_lock_file_is_deleted_although_other_processes_held_it_too(tmp_path: Path):
    with folder_lock(tmp_path, "make-shards") as lock:
        end_holder = start_holder(lock)
        end_holder()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault("B5")
def test_the_folder_stays_locked_while_a_process_of_the_writer_is_alive(tmp_path: Path):
    with folder_lock(tmp_path, "make-shards") as lock:
        end_holder = start_holder(lock)
    with (
        pytest.raises(ConfigError, match="another run of `wds-bone make-shards` holds this lock"),
        folder_lock(tmp_path, "make-shards", wait_seconds=0.1),
    ):
        pytest.fail("the writer's process may still be writing")
    assert (tmp_path / LOCK_NAME).exists()
    end_holder()
    with folder_lock(tmp_path, "make-shards", wait_seconds=0):
        pass


@pytest.mark.fault("B5")
def test_a_new_writer_waits_for_the_processes_of_a_dead_one(tmp_path: Path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait(60)
    with folder_lock(tmp_path, "make-shards") as lock:
        os.pwrite(lock.descriptor, f"process {dead.pid} on {socket.gethostname()}\n".ljust(80).encode(), 0)
        timer = threading.Timer(0.5, fcntl.flock, (lock.descriptor, fcntl.LOCK_UN))
        timer.start()
        with folder_lock(tmp_path, "make-shards", wait_seconds=0):
            timer.join(60)


@pytest.mark.fault("B7")
def test_a_folder_that_cannot_be_written_to_is_refused_at_once(tmp_path: Path):
    (tmp_path / "file").write_text("not a folder")
    with (
        pytest.raises(WdsBoneError, match=r"file: cannot be written(?s:.*)file is a file"),
        folder_lock(tmp_path / "file", "make-shards"),
    ):
        pytest.fail("a file is not a folder")
    with pytest.raises(WdsBoneError, match="file is a file"), folder_lock(tmp_path / "file" / "run", "train"):
        pytest.fail("nothing can be below a file")
    with (
        pytest.raises(WdsBoneError, match=r"File name too long(?s:.*)a name of 300 bytes"),
        folder_lock(tmp_path / ("x" * 300), "make-shards"),
    ):
        pytest.fail("no folder can have this name")


@pytest.mark.fault("B7")
def test_a_read_only_folder_is_refused_at_once():
    folder = Path(tempfile.mkdtemp())  # not tmp_path: other users may not enter its parents
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR | stat.S_IROTH | stat.S_IXOTH)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)  # root can write to any folder
        with pytest.raises(WdsBoneError, match="Permission denied"), folder_lock(folder, "make-shards"):
            pytest.fail("the folder is read-only")
    finally:
        os.seteuid(user)
        folder.rmdir()


@pytest.mark.fault("I3")
def test_a_symbolic_link_instead_of_the_lock_file_is_not_followed(tmp_path: Path):
    target = tmp_path / "target"
    target.write_text("old text")
    (tmp_path / LOCK_NAME).symlink_to(target)
    with pytest.raises(WdsBoneError, match="cannot be written"), folder_lock(tmp_path, "make-shards"):
        pytest.fail("the lock is a link")
    assert target.read_text() == "old text"
