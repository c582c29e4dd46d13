"""Only one run writes below a prefix at a time, and what a killed one leaves can be taken over."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from tests.sharding.buckets import WRITABLE_CLOUDS, Bucket, open_bucket
from wds_bone.errors import ConfigError
from wds_bone.objects.clients import client_of
from wds_bone.objects.url import Url
from wds_bone.storage.object_lock import prefix_lock

pytest.importorskip("obstore", reason="the extra `s3` is not installed")
pytestmark = pytest.mark.fault("B5")
HOLD_AND_BE_KILLED = """
import os, sys
from wds_bone.objects.url import parse_url
from wds_bone.storage.object_lock import prefix_lock
with prefix_lock(parse_url(sys.argv[1]), "make-shards"):
    os.kill(os.getpid(), 9)
"""


@pytest.fixture(params=WRITABLE_CLOUDS)
def bucket(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    return open_bucket(request.param, request, tmp_path, monkeypatch)


@pytest.fixture
def s3(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    return open_bucket("s3", request, tmp_path, monkeypatch)


def lock_below(prefix: Url) -> list[str]:
    """Return the lines of the lock of a prefix; none if there is no lock."""
    try:
        return client_of(prefix).read_all(prefix / "make_shards.lock", max_bytes=1000).decode().splitlines()
    except FileNotFoundError:
        return []


def plant_lock(prefix: Url, *, process: int | None = None, host: str | None = None, kernel: str = "", space: str = ""):
    """Write a lock like that of this process, except for what is given."""
    with prefix_lock(prefix, "make-shards"):
        lines = lock_below(prefix)
    lines[0] = f"process {process or os.getpid()} on {host or socket.gethostname()}, started 2026-01-01 10:00:00+00:00"
    lines[1:] = kernel or lines[1], space or lines[2], "0123456789abcdef"
    client_of(prefix).write(prefix / "make_shards.lock", "".join(f"{line}\n" for line in lines).encode())


def dead_process() -> int:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(60)
    return ended.pid


def test_a_second_run_is_refused_and_the_first_one_leaves_no_lock(bucket: Bucket):
    with prefix_lock(bucket.prefix, "make-shards"):
        with (
            pytest.raises(ConfigError, match=f"got: +process {os.getpid()} on "),
            prefix_lock(bucket.prefix, "make-shards"),
        ):
            pass
        assert lock_below(bucket.prefix)
    assert not lock_below(bucket.prefix)


def test_of_many_runs_that_start_at_once_one_gets_the_lock(bucket: Bucket):
    at_start, at_end = Barrier(8, timeout=60), Barrier(8, timeout=60)

    def run(_: int) -> bool:
        at_start.wait()
        try:
            with prefix_lock(bucket.prefix, "make-shards"):
                at_end.wait()
                return True
        except ConfigError:
            at_end.wait()
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(run, range(8))) == 1


def test_the_lock_of_a_run_that_was_killed_on_this_host_is_taken_over(bucket: Bucket):
    command = [sys.executable, "-c", HOLD_AND_BE_KILLED, str(bucket.prefix)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    assert subprocess.run(command, env=environment, timeout=120, check=False).returncode == -signal.SIGKILL
    killed = lock_below(bucket.prefix)
    assert killed
    with prefix_lock(bucket.prefix, "make-shards"):
        assert lock_below(bucket.prefix) != killed
    assert not lock_below(bucket.prefix)


def test_the_lock_of_a_container_that_was_restarted_is_taken_over(s3: Bucket):
    plant_lock(s3.prefix, space="pid:[1]")
    with prefix_lock(s3.prefix, "make-shards"):
        assert lock_below(s3.prefix)


@pytest.mark.parametrize(
    "holder",
    [
        lambda: {"process": os.getppid()},
        lambda: {"process": 1, "host": "another.host", "kernel": "another"},
        lambda: {"process": dead_process(), "kernel": "a host of the same name"},
        lambda: {"process": dead_process(), "space": "another container"},
        lambda: {"kernel": "a host of the same name"},
    ],
    ids=["alive", "other host", "host of the same name", "other container", "same process on another host"],
)
def test_the_lock_of_a_run_that_may_be_alive_is_an_error_with_its_holder_and_a_remedy(
    s3: Bucket, holder: Callable[[], dict[str, object]]
):
    plant_lock(s3.prefix, **holder())  # type: ignore[arg-type]
    planted = lock_below(s3.prefix)
    with pytest.raises(ConfigError, match="holds this lock") as caught, prefix_lock(s3.prefix, "make-shards"):
        pass
    assert "another run of `wds-bone make-shards`" in str(caught.value)
    assert f"got:      {planted[0]}" in str(caught.value)
    assert f"run `aws s3 rm {s3.prefix}/make_shards.lock`" in str(caught.value)
    assert lock_below(s3.prefix) == planted
    client_of(s3.prefix).delete(s3.prefix / "make_shards.lock")  # as the remedy says
    with prefix_lock(s3.prefix, "make-shards"):
        assert lock_below(s3.prefix) != planted


def test_the_remedy_names_the_object_as_the_tools_of_the_cloud_do(s3: Bucket):
    prefix = s3.prefix / "left hands"
    plant_lock(prefix, process=os.getppid())
    with pytest.raises(ConfigError) as caught, prefix_lock(prefix, "make-shards"):
        pass
    assert f"aws s3 rm s3://shards/'{s3.prefix.path}/left hands/make_shards.lock'" in str(caught.value)


def test_a_run_whose_lock_was_deleted_does_not_delete_that_of_the_next_one(s3: Bucket):
    with prefix_lock(s3.prefix, "make-shards"):
        client_of(s3.prefix).delete(s3.prefix / "make_shards.lock")
        plant_lock(s3.prefix, process=os.getppid())
    assert lock_below(s3.prefix)[0].startswith(f"process {os.getppid()} ")
