"""Interrupt `wds-bone make-shards` before every change of a bucket, and check what remains."""

import itertools
import os
import random
import signal
import subprocess
from pathlib import Path

import pytest

from tests.servers.answers import Request
from tests.servers.fault import Fault, fault_server
from tests.sharding.buckets import Bucket, files_in, objects_in, open_bucket
from tests.sharding.film_sets import DEADLINE_SECONDS, finish, make, start, wait_until, write_films
from wds_bone.objects.clients import client_of
from wds_bone.objects.cloud_objects import CloudObjects
from wds_bone.objects.url import Url
from wds_bone.shards.manifest import MANIFEST_NAME, STAGING_NAME, is_unfinished
from wds_bone.storage.lock import lock_name
from wds_bone.stream.locate import find_splits
from wds_bone.verify import find_problems

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
CHANGES = ("write", "copy", "delete")
LOCK = lock_name("make-shards")


class KilledError(BaseException):
    """Raised by every change of the bucket from a certain one on, as if the process had been killed before it."""


@pytest.fixture
def s3(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    return open_bucket("s3", request, tmp_path, monkeypatch)


def make_until_killed(number: int, out: Url, *arguments: str) -> bool:
    """Run the command, allow only the changes before `number`, and return whether it got that far."""
    left = number - 1

    def counted(change):
        def call(*arguments, **options):
            nonlocal left
            left -= 1
            if left < 0:
                raise KilledError
            return change(*arguments, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in CHANGES:
            patch.setattr(CloudObjects, name, counted(getattr(CloudObjects, name)))
        try:
            assert make(out, *arguments) == 0  # type: ignore[arg-type]
        except KilledError:
            return True
    return False


def is_complete_set(out: Url) -> bool:
    """Return whether `out` is a complete set; if not, check that readers refuse it."""
    if MANIFEST_NAME in client_of(out).names(out):
        assert list(find_problems([str(out)])) == []
        return True
    assert is_unfinished(out) or not [name for name in client_of(out).names(out) if name.endswith(".tar")]
    with pytest.raises(ValueError, match=r"no shards|not finished"):
        find_splits(str(out))
    return False


@pytest.mark.fault("B1")
def test_after_a_kill_before_any_change_a_repeated_run_gives_the_same_set(tmp_path: Path, s3: Bucket):
    films, number, completed = [*write_films(tmp_path / "films", 4), "--val-fraction", "0.3"], 1, []
    make(tmp_path / "whole", *films)
    expected = files_in(tmp_path / "whole")
    while make_until_killed(number, out := s3.prefix / f"out{number}", *films):
        completed.append(is_complete_set(out))
        assert make(out, *films) == 0  # type: ignore[arg-type]
        assert objects_in(out) == expected, f"killed before change {number}"
        number += 1
    assert number > 20
    assert completed == sorted(completed)  # once the set is complete, it stays complete


@pytest.mark.fault("B1")
def test_a_kill_during_replacement_leaves_the_old_set_or_the_new_set_or_one_marked_as_incomplete(
    tmp_path: Path, s3: Bucket
):
    old = [*write_films(tmp_path / "old", 12), "--split", "train"]
    new = [*write_films(tmp_path / "new", 4), "--split", "train"]
    make(tmp_path / "first", *old)
    make(tmp_path / "whole", *new)
    before, expected, number = files_in(tmp_path / "first"), files_in(tmp_path / "whole"), 1
    while True:
        s3.upload(tmp_path / "first", f"out{number}")
        out = s3.prefix / f"out{number}"
        if not make_until_killed(number, out, *new, "--replace"):
            break
        found = objects_in(out)
        kept = {name: contents for name, contents in found.items() if not name.startswith((STAGING_NAME, LOCK))}
        assert MANIFEST_NAME not in kept or kept in (before, expected)
        retired = not is_complete_set(out)
        assert make(out, *new, *([] if retired else ["--replace"])) == 0  # type: ignore[arg-type]
        assert objects_in(out) == expected, f"killed before change {number}"
        number += 1
    assert number > 15


@pytest.mark.fault("B1")
def test_a_run_that_is_killed_leaves_a_lock_and_shards_and_a_repeated_run_continues(tmp_path: Path, s3: Bucket):
    films = ["--synthetic", "60", "--size", "64", "--samples-per-shard", "6", "--workers", "2"]
    out = s3.prefix / "set"
    assert make(tmp_path / "whole", *films) == 0
    process = start(out, *films, "--encoding", "png", env={**os.environ, "PYTHONWARNINGS": "ignore"})  # type: ignore[arg-type]
    try:
        wait_until(lambda: [name for name in objects_in(out) if name.endswith("0.json")])
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == -signal.SIGKILL
    assert not is_complete_set(out)
    assert LOCK in objects_in(out)
    assert make(out, *films) == 0  # type: ignore[arg-type]
    assert objects_in(out) == files_in(tmp_path / "whole")


@pytest.mark.fault("B1")
def test_runs_that_are_killed_at_random_requests_and_repeated_give_the_same_objects(
    tmp_path: Path, s3: Bucket, s3_url: str
):
    films, generator = write_films(tmp_path / "films", 24), random.Random(0)
    words = [*films, "--size", "16", "--encoding", "png", "--samples-per-shard", "8", "--workers", "2"]
    assert make(tmp_path / "whole", *films) == 0
    expected, changes = files_in(tmp_path / "whole"), count_changes(s3, s3_url, words)
    out = s3.prefix / "set"
    for kill in sorted(generator.sample(range(changes), 5)):
        run_until_killed(out, words, s3_url, number=kill, is_lost=generator.random() < 0.5)
        is_complete_set(out)
    assert make(out, *films) == 0  # type: ignore[arg-type]
    assert objects_in(out) == expected


def count_changes(s3: Bucket, server: str, words: list[str]) -> int:
    """Return how many requests of an uninterrupted run change the bucket."""
    requests: list[Request] = []
    with fault_server(server, log=requests) as proxy:
        process = start(s3.prefix / "other", *words, env={**os.environ, "AWS_ENDPOINT_URL": proxy})  # type: ignore[arg-type]
        status, _, error = finish(process)
    assert status == 0, error
    return sum(request.method not in ("GET", "HEAD") for request in requests)


def run_until_killed(out: Url, words: list[str], server: str, *, number: int, is_lost: bool) -> None:
    """Kill a run at its change `number` of the bucket, which is lost, or still takes effect; it may have fewer."""
    numbers, started = itertools.count(), []

    def kill(request: Request) -> Fault | None:
        if request.method in ("GET", "HEAD") or next(numbers) < number:
            return None
        started[0].kill()
        return Fault(cut_upload_at=0) if is_lost else None

    with fault_server(server, kill) as proxy:
        environment = {**os.environ, "AWS_ENDPOINT_URL": proxy, "PYTHONWARNINGS": "ignore"}
        started.append(start(out, *words, env=environment))  # type: ignore[arg-type]
        assert finish(started[0])[0] in (-signal.SIGKILL, 0)


def test_nothing_remains_in_the_folder_for_temporary_files(tmp_path: Path, s3: Bucket, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    command = ["--synthetic", "12", "--size", "32", "--workers", "1"]
    process = start(s3.prefix / "set", *command)  # type: ignore[arg-type]
    assert process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0
    assert list((tmp_path / "temporary").iterdir()) == []
    assert isinstance(process, subprocess.Popen)
