import fcntl
import multiprocessing
import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from wds_bone.errors import ShardError, WdsBoneError
from wds_bone.sharding.lock import LOCK_NAME, Lock, writer_lock


def test_a_second_writer_is_refused_with_the_process_and_host_of_the_first(tmp_path: Path):
    with writer_lock(tmp_path / "set"):
        with pytest.raises(ShardError) as caught, writer_lock(tmp_path / "set", wait_seconds=0.1):
            pytest.fail("two writers at once")
        assert f"process {os.getpid()} on {socket.gethostname()}" in str(caught.value)


def test_the_lock_is_free_again_after_the_block_and_after_an_error(tmp_path: Path):
    with pytest.raises(RuntimeError), writer_lock(tmp_path):
        raise RuntimeError
    with writer_lock(tmp_path, wait_seconds=0):
        assert (tmp_path / LOCK_NAME).exists()


def hold(lock: Lock, ready: object, end: object) -> None:
    ready.set()  # type: ignore[attr-defined]
    end.wait(60)  # type: ignore[attr-defined]


def test_the_folder_stays_locked_while_a_process_of_the_writer_is_alive(tmp_path: Path):
    context = multiprocessing.get_context("forkserver")
    ready, end = context.Event(), context.Event()
    with writer_lock(tmp_path) as lock:
        process = context.Process(target=hold, args=(lock, ready, end))
        process.start()
        assert ready.wait(60)
    with (
        pytest.raises(ShardError, match="another run of `wds-bone make-shards` holds this lock"),
        writer_lock(tmp_path, wait_seconds=0.1),
    ):
        pytest.fail("the writer's process may still be writing")
    end.set()
    process.join(60)
    with writer_lock(tmp_path, wait_seconds=0):
        pass


def test_a_new_writer_waits_for_the_processes_of_a_dead_one(tmp_path: Path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait(60)
    with writer_lock(tmp_path) as lock:
        os.pwrite(lock.descriptor, f"process {dead.pid} on {socket.gethostname()}\n".ljust(80).encode(), 0)
        timer = threading.Timer(0.5, fcntl.flock, (lock.descriptor, fcntl.LOCK_UN))
        timer.start()
        with writer_lock(tmp_path, wait_seconds=0):
            timer.join(60)


def test_a_folder_that_cannot_be_written_to_is_refused_at_once(tmp_path: Path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(WdsBoneError, match=r"make_shards\.lock: cannot be written"), writer_lock(tmp_path / "file"):
        pytest.fail("a file is not a folder")
    with pytest.raises(WdsBoneError, match="File name too long"), writer_lock(tmp_path / ("x" * 300)):
        pytest.fail("no folder can have this name")


def test_a_read_only_folder_is_refused_at_once():
    folder = Path(tempfile.mkdtemp())  # not tmp_path: other users may not enter its parents
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR | stat.S_IROTH | stat.S_IXOTH)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)  # root can write to any folder
        with pytest.raises(WdsBoneError, match="Permission denied"), writer_lock(folder):
            pytest.fail("the folder is read-only")
    finally:
        os.seteuid(user)
        folder.rmdir()


@pytest.mark.fault("I3")
def test_a_symbolic_link_instead_of_the_lock_file_is_not_followed(tmp_path: Path):
    target = tmp_path / "target"
    target.write_text("old text")
    (tmp_path / LOCK_NAME).symlink_to(target)
    with pytest.raises(WdsBoneError, match="cannot be written"), writer_lock(tmp_path):
        pytest.fail("the lock is a link")
    assert target.read_text() == "old text"
