"""A cluster writes to object storage, and reads films from it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import pytest

from tests.servers.answers import Request
from tests.servers.fault import fault_server
from tests.sharding.buckets import Bucket, files_in, objects_in, open_bucket
from tests.sharding.film_sets import make, write_films
from wds_bone.objects.clients import close_clients
from wds_bone.sharding.cluster_task import Site, find_problem, local_versions, write_attempt
from wds_bone.sharding.plan import ShardPlan
from wds_bone.sharding.processes import WriterSettings
from wds_bone.sharding.sources import synthetic_sources
from wds_bone.sharding.staging import MARKER_NAME, attempts_folder
from wds_bone.shards.manifest import STAGING_NAME, ImageFormat

distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """The address of a scheduler with two workers, all in this process."""
    settings = {"n_workers": 2, "threads_per_worker": 1, "processes": False, "dashboard_address": ":0"}
    with distributed.LocalCluster(protocol="inproc", **settings) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def s3(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    return open_bucket("s3", request, tmp_path, monkeypatch)


def test_a_cluster_writes_the_same_objects_and_leaves_no_other(tmp_path: Path, s3: Bucket, scheduler: str):
    films = write_films(tmp_path / "films", 40)
    url, out = s3.upload(tmp_path / "films", "films"), s3.prefix / "set"
    assert make(tmp_path / "local", *films) == 0
    remote = ("--labels", f"{url}/labels.csv", "--images", url)
    assert make(out, *remote, "--scheduler", scheduler) == 0  # type: ignore[arg-type]
    assert objects_in(out) == files_in(tmp_path / "local")


def test_an_interrupted_set_is_completed_by_either_kind_of_run(
    tmp_path: Path, s3: Bucket, scheduler: str, capsys: pytest.CaptureFixture[str]
):
    films, out, film = write_films(tmp_path / "films", 40), s3.prefix / "set", tmp_path / "films" / "hand-11.png"
    assert make(tmp_path / "local", *films) == 0
    contents = film.read_bytes()
    film.write_bytes(contents[:40].ljust(len(contents), b"\0"))
    assert make(out, *films, "--scheduler", scheduler) == 2  # type: ignore[arg-type]
    assert "(on worker inproc://" in capsys.readouterr().err
    assert all(name.startswith(STAGING_NAME) for name in objects_in(out))  # perhaps with those of a late attempt
    film.write_bytes(contents)
    assert make(out, *films) == 0  # type: ignore[arg-type]
    assert objects_in(out) == files_in(tmp_path / "local")


@pytest.mark.fault("B5")
def test_what_a_worker_writes_after_its_run_has_ended_is_deleted(
    tmp_path: Path, s3: Bucket, s3_url: str, scheduler: str, monkeypatch: pytest.MonkeyPatch
):
    staging, writing, ended = s3.prefix / "set" / STAGING_NAME, Event(), Event()

    def hold_the_tar(request: Request) -> None:
        if request.method == "PUT" and request.path.endswith("/train-000000.tar"):
            writing.set()
            assert ended.wait(60)

    shard = ShardPlan("train-000000.tar", tuple(synthetic_sources(3, seed=0)))
    with distributed.Client(scheduler, set_as_default=False) as client, fault_server(s3_url, hold_the_tar) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy)
        close_clients()
        with attempts_folder(staging) as folder:
            site = Site(local_versions(), folder / MARKER_NAME, {})
            settings = WriterSettings(folder, ImageFormat("png", 32, 32, None, "letterbox", None), None)
            attempt = client.submit(write_attempt, shard, settings, site)
            assert writing.wait(60)
        ended.set()
        assert "which was just written: there is no such object" in str(attempt.exception(timeout=60))
        assert objects_in(s3.prefix) == {}


def test_a_worker_that_cannot_read_the_bucket_is_named_with_the_reason(s3: Bucket):
    site = Site(local_versions(), s3.prefix / STAGING_NAME / "0123" / MARKER_NAME, {})
    problem = find_problem(site, SimpleNamespace(address="tcp://10.0.0.7:4000"))
    assert f"worker tcp://10.0.0.7:4000: cannot read {site.folder}" in str(problem)
    assert "credentials" in str(problem)
    film = s3.prefix / "film.png"
    problem = find_problem(replace(site, folder=str(Path.cwd()), films={film: 3}), SimpleNamespace(address="tcp://a:1"))
    assert f"worker tcp://a:1: does not see the films of this command, such as {film}" in str(problem)
