"""Test `wds-bone make-shards --scheduler` on a Dask cluster inside this process."""

import shutil
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.sharding.film_sets import digests, make, names_in, write_films
from tests.threads import assert_threads_end
from wds_bone.sharding.cluster_task import Site, find_problem, local_versions
from wds_bone.sharding.lists import BAD_NAME
from wds_bone.sharding.staging import adopt_shard, attempts_folder
from wds_bone.sharding.writer import read_record
from wds_bone.shards.manifest import MANIFEST_NAME, STAGING_NAME
from wds_bone.verify import find_problems

distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
dask = pytest.importorskip("dask")


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """The address of a scheduler with two workers, all in this process."""
    settings = {"n_workers": 2, "threads_per_worker": 1, "processes": False, "dashboard_address": ":0"}
    with distributed.LocalCluster(protocol="inproc", **settings) as cluster:
        yield cluster.scheduler_address


def make_on_cluster(out: Path, scheduler: str, *arguments: str) -> int:
    """Run the command with small images on a cluster, and return its exit code."""
    return make(out, *arguments, "--scheduler", scheduler)


def damage(film: Path) -> bytes:
    """Damage a film but keep its size, and return what it was."""
    contents = film.read_bytes()
    film.write_bytes(contents[:40] + bytes(len(contents) - 40))
    return contents


@pytest.mark.fault("B6")
def test_a_cluster_writes_the_same_bytes_as_this_machine(
    tmp_path: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    write_films(tmp_path / "films", 40)
    monkeypatch.chdir(tmp_path)
    films = ("--labels", "films/labels.csv", "--images", "films")
    assert make(Path("local"), *films) == 0
    capsys.readouterr()
    assert make_on_cluster(Path("out"), scheduler, *films) == 0
    assert "train + val: 40 of 40 samples" in capsys.readouterr().err
    assert digests(tmp_path / "out") == digests(tmp_path / "local")


def test_synthetic_hands_are_the_same_on_a_cluster(tmp_path: Path, scheduler: str):
    hands = ("--synthetic", "12", "--encoding", "jpg", "--split", "test")
    assert make(tmp_path / "local", *hands) == make_on_cluster(tmp_path / "out", scheduler, *hands) == 0
    assert digests(tmp_path / "out") == digests(tmp_path / "local")


@pytest.mark.parametrize("allowed", ["1", "2"])
def test_bad_films_have_the_same_budget_and_list_on_a_cluster(
    tmp_path: Path, scheduler: str, allowed: str, capsys: pytest.CaptureFixture[str]
):
    films = [*write_films(tmp_path / "films", 40), "--on-bad", "skip", "--max-bad", allowed]
    for number in (3, 17):
        damage(tmp_path / "films" / f"hand-{number}.png")
    assert make(tmp_path / "local", *films) == make_on_cluster(tmp_path / "out", scheduler, *films)
    if allowed == "1":
        assert "too many bad samples" in capsys.readouterr().err
        assert not (tmp_path / "out" / MANIFEST_NAME).exists()
    else:
        assert len((tmp_path / "out" / BAD_NAME).read_text().splitlines()) == 2
        assert digests(tmp_path / "out") == digests(tmp_path / "local")


@pytest.mark.fault("B1")
def test_a_repeated_run_on_either_kind_of_machine_completes_an_interrupted_set(
    tmp_path: Path, scheduler: str, capsys: pytest.CaptureFixture[str]
):
    out, film = tmp_path / "out", tmp_path / "films" / "hand-11.png"
    films = write_films(tmp_path / "films", 40)
    assert make(tmp_path / "whole", *films) == 0
    contents = damage(film)
    assert make_on_cluster(out, scheduler, *films) == 2
    error = capsys.readouterr().err
    assert f"error: {film}: " in error
    assert "(on worker inproc://" in error
    assert not [path for path in (out / STAGING_NAME).iterdir() if path.is_dir()]
    film.write_bytes(contents)
    shutil.copytree(out, tmp_path / "copy")
    assert make_on_cluster(out, scheduler, *films) == make(tmp_path / "copy", *films) == 0
    assert digests(out) == digests(tmp_path / "copy") == digests(tmp_path / "whole")


@pytest.mark.fault("B4")
def test_a_set_that_is_complete_is_not_written_again(
    tmp_path: Path, scheduler: str, capsys: pytest.CaptureFixture[str]
):
    films = write_films(tmp_path / "films", 12)
    assert make(tmp_path / "out", *films) == make_on_cluster(tmp_path / "out", scheduler, *films) == 0
    assert "already complete; nothing was written" in capsys.readouterr().out


def test_what_an_attempt_still_writes_after_its_run_is_not_in_the_set(tmp_path: Path):
    films = write_films(tmp_path / "films", 12)
    assert make(tmp_path / "whole", *films) == 0
    staging = tmp_path / "out" / STAGING_NAME
    staging.mkdir(parents=True)
    with attempts_folder(staging) as folder:
        (folder / "train-000000.tar.x").mkdir()
        stream = (folder / "train-000000.tar.x" / "train-000000.tar.0.tmp").open("wb")
    with stream:
        assert names_in(staging) == []
        stream.write(b"late")
    (staging / "killed").mkdir()  # as a run that was killed leaves it
    (staging / "killed" / "train-000000.tar").write_bytes(b"stale")
    assert make(tmp_path / "out", *films, "--replace") == 0
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")
    assert list(find_problems([str(tmp_path / "out")])) == []


def test_only_a_finished_attempt_at_the_right_shard_is_adopted(tmp_path: Path):
    films, staging = write_films(tmp_path / "films", 12), tmp_path / "staging"
    (tmp_path / "attempt").mkdir()
    staging.mkdir()
    with pytest.raises(ValueError, match=r"does not contain the shard") as caught:
        adopt_shard(staging, tmp_path / "attempt", "train-000000.tar")
    assert "got:      none" in str(caught.value)
    assert read_record(staging, "train-000000.tar") is None
    assert films


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """What a worker has in common with this machine: a folder in the staging folder, and a film of three bytes."""
    folder, film = tmp_path / "out" / STAGING_NAME / "run", tmp_path / "film.png"
    folder.mkdir(parents=True)
    film.write_bytes(b"abc")
    return Site(local_versions(), str(folder), {str(film): 3})


def problem_of(site: Site) -> str:
    return str(find_problem(site, SimpleNamespace(address="tcp://10.0.0.7:4000")))


def test_a_worker_like_this_machine_has_no_problem(site: Site):
    assert problem_of(site) == "None"


@pytest.mark.parametrize("name", ["wds_bone", "Python", "Pillow"])
def test_a_worker_with_another_version_is_named_with_both_versions(site: Site, name: str):
    message = problem_of(replace(site, versions={**site.versions, name: "0.0.7"}))
    assert "worker tcp://10.0.0.7:4000: has other versions than this command" in message
    assert f"expected: {name} 0.0.7\n  got:      {name} {local_versions()[name]}\n" in message


def test_a_worker_that_does_not_see_the_folder_of_the_set_is_named_with_it(site: Site, tmp_path: Path):
    Path(site.folder).rmdir()
    message = problem_of(site)
    assert f"worker tcp://10.0.0.7:4000: does not see the folder of the set, {tmp_path / 'out'}" in message
    assert "No such file or directory" in message


@pytest.mark.parametrize("contents", [None, b"other film"])
def test_a_worker_that_does_not_see_the_same_films_is_named_with_one(
    site: Site, tmp_path: Path, contents: bytes | None
):
    film = tmp_path / "film.png"
    film.unlink()
    if contents:
        film.write_bytes(contents)
    message = problem_of(site)
    assert f"worker tcp://10.0.0.7:4000: does not see the films of this command, such as {film}" in message
    assert "expected: 3 bytes" in message
    assert ("got:      10 bytes" if contents else "No such file or directory") in message


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:1", "localhost", "http://127.0.0.1:8787/status", "tls://127.0.0.1:1"]
)
def test_an_address_without_a_scheduler_is_refused_before_anything_is_written(
    tmp_path: Path, address: str, capsys: pytest.CaptureFixture[str]
):
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        assert make_on_cluster(tmp_path / "out", address, "--synthetic", "8") == 2
    error = capsys.readouterr().err
    assert f"error: --scheduler {address}: no Dask scheduler answers" in error
    assert not (tmp_path / "out").exists()


def test_without_dask_the_extra_and_the_package_to_install_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert make_on_cluster(tmp_path / "out", "tcp://127.0.0.1:1", "--synthetic", "8") == 2
    error = capsys.readouterr().err
    assert "the extra `cluster` is not installed" in error
    assert "run `pip install distributed`" in error


def test_a_run_on_a_cluster_leaves_no_thread(tmp_path: Path, scheduler: str):
    films, before = write_films(tmp_path / "films", 12), threading.active_count()
    assert make_on_cluster(tmp_path / "out", scheduler, *films) == 0
    assert_threads_end(before)
