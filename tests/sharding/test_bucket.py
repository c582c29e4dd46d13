"""Sets are written to object storage with the bytes of a local set, and films and tables are read from it."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.servers.fault import Fault, always, fault_server
from tests.sharding.buckets import CLOUDS, WRITABLE_CLOUDS, Bucket, files_in, objects_in, open_bucket
from tests.sharding.film_sets import make, write_films
from wds_bone.index import main as index
from wds_bone.objects import retries
from wds_bone.objects.clients import client_of, close_clients
from wds_bone.objects.url import Url
from wds_bone.sharding.lists import BAD_NAME
from wds_bone.shards.manifest import MANIFEST_NAME, STAGING_NAME
from wds_bone.storage.object_lock import prefix_lock
from wds_bone.verify import find_problems

pytest.importorskip("obstore", reason="the extra `s3` is not installed")


@pytest.fixture(params=WRITABLE_CLOUDS)
def bucket(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    return open_bucket(request.param, request, tmp_path, monkeypatch)


@pytest.fixture
def s3(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    return open_bucket("s3", request, tmp_path, monkeypatch)


def make_at(url: Url | str, *arguments: str) -> int:
    return make(url, *arguments)  # type: ignore[arg-type]


@pytest.mark.fault("B6")
def test_a_set_in_a_bucket_has_the_bytes_of_a_local_one(
    tmp_path: Path, bucket: Bucket, capsys: pytest.CaptureFixture[str]
):
    films, out = write_films(tmp_path / "films", 20), bucket.prefix / "set"
    assert make(tmp_path / "local", *films) == 0
    assert make_at(out, *films) == 0
    assert f"figures: {out}/contact-sheet.png" in capsys.readouterr().out
    written = objects_in(out)
    assert written == files_in(tmp_path / "local")
    assert list(find_problems([str(out)])) == []
    assert make_at(out, *films) == 0
    assert "already complete; nothing was written" in capsys.readouterr().out
    assert objects_in(out) == written


def test_an_interrupted_run_leaves_the_plan_shards_and_records_of_a_local_one(tmp_path: Path, s3: Bucket):
    films, out = write_films(tmp_path / "films", 40), s3.prefix / "set"
    film = tmp_path / "films" / "hand-5.png"
    film.write_bytes(film.read_bytes()[:40].ljust(film.stat().st_size, b"\0"))
    assert make(tmp_path / "local", *films) == make_at(out, *films) == 2
    left = files_in(tmp_path / "local")
    assert objects_in(out) == left
    assert [name for name in left if name.startswith(f"{STAGING_NAME}/train-") and name.endswith(".json")]


def test_what_a_killed_worker_of_a_cluster_left_is_deleted_by_the_next_run(tmp_path: Path, s3: Bucket):
    films, out = write_films(tmp_path / "films", 12), s3.prefix / "set"
    assert make_at(out, *films) == 0
    written = objects_in(out)
    client_of(out).write(out / STAGING_NAME / "0123" / "train-000000.tar.4567" / "train-000000.tar", b"late")
    assert make_at(out, *films) == 0
    assert objects_in(out) == written


def test_writers_in_other_processes_write_the_same_objects(tmp_path: Path, s3: Bucket):
    films = [*write_films(tmp_path / "films", 40), "--workers", "2"]
    assert make(tmp_path / "local", *films) == make_at(s3.prefix / "set", *films) == 0
    assert objects_in(s3.prefix / "set") == files_in(tmp_path / "local")


@pytest.mark.parametrize("cloud", CLOUDS)
def test_films_and_their_table_are_read_from_a_bucket(
    tmp_path: Path, cloud: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
):
    bucket = open_bucket(cloud, request, tmp_path, monkeypatch)
    films = write_films(tmp_path / "films" / "deep", 20)
    (tmp_path / "films" / ".hidden").mkdir()
    (tmp_path / "films" / ".hidden" / "hand-3.png").write_bytes(b"not a film")
    url = bucket.upload(tmp_path / "films", "films")
    assert make(tmp_path / "local", *films) == 0
    assert make(tmp_path / "out", "--labels", f"{url}/deep/labels.csv", "--images", url) == 0
    assert files_in(tmp_path / "out") == files_in(tmp_path / "local")


def test_a_bad_or_missing_film_in_a_bucket_is_the_same_error_as_on_a_disk(
    tmp_path: Path, s3: Bucket, capsys: pytest.CaptureFixture[str]
):
    films = write_films(tmp_path / "films", 12)
    film = tmp_path / "films" / "hand-5.png"
    film.write_bytes(film.read_bytes()[:40].ljust(film.stat().st_size, b"\0"))
    url = s3.upload(tmp_path / "films", "films")
    remote = ["--labels", f"{url}/labels.csv", "--images", url]
    messages = []
    for arguments, where in ((films, str(tmp_path / "films")), (remote, url)):
        assert make(tmp_path / "out", *arguments) == 2
        messages.append(capsys.readouterr().err.replace(where, "FOLDER"))
    assert messages[0] == messages[1]
    assert "FOLDER/hand-5.png: " in messages[0]
    skip = ("--on-bad", "skip", "--max-bad", "1")
    assert make(tmp_path / "local", *films, *skip) == make_at(s3.prefix / "set", *remote, *skip) == 0
    assert objects_in(s3.prefix / "set") == files_in(tmp_path / "local")
    assert BAD_NAME in files_in(tmp_path / "local")
    (tmp_path / "films" / "hand-7.png").unlink()
    assert make(tmp_path / "more", "--labels", films[1], "--images", s3.upload(tmp_path / "films", "less")) == 2
    error = capsys.readouterr().err
    assert "no image found for 1 of 12 labels; the first is 'hand-7'" in error


def test_an_id_with_several_films_in_a_bucket_is_one_bad_row_as_on_a_disk(tmp_path: Path, s3: Bucket):
    films, skip = write_films(tmp_path / "films", 12), ("--on-bad", "skip", "--max-bad", "1")
    (tmp_path / "films" / "more").mkdir()
    shutil.copy(tmp_path / "films" / "hand-5.png", tmp_path / "films" / "more")
    remote = ["--labels", films[1], "--images", s3.upload(tmp_path / "films", "films")]
    assert make(tmp_path / "local", *films, *skip) == make_at(s3.prefix / "set", *remote, *skip) == 0
    assert objects_in(s3.prefix / "set") == files_in(tmp_path / "local")
    assert b"several images" in files_in(tmp_path / "local")[BAD_NAME]


def test_a_film_that_disappears_is_reported_with_its_url(
    tmp_path: Path, s3: Bucket, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    films = write_films(tmp_path / "films", 12)
    url = s3.upload(tmp_path / "films", "films")
    sizes = client_of(s3.prefix).sizes(s3.prefix / "films")
    client_of(s3.prefix).delete(s3.prefix / "films" / "hand-4.png")
    monkeypatch.setattr(type(client_of(s3.prefix)), "sizes", lambda client, prefix: sizes)
    assert make(tmp_path / "out", "--labels", films[1], "--images", url) == 2
    error = capsys.readouterr().err
    assert f"error: {url}/hand-4.png: cannot be read" in error
    assert "got:      there is no such object" in error


@pytest.mark.fault("C3")
def test_a_film_that_the_store_does_not_deliver_is_not_left_out_as_a_bad_one(
    tmp_path: Path, s3: Bucket, s3_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    films, skip = write_films(tmp_path / "films", 12), ("--on-bad", "skip", "--max-bad", "3")
    url = s3.upload(tmp_path / "films", "films")
    monkeypatch.setattr(retries, "TIMEOUT_SECONDS", 0.5)
    with fault_server(s3_url, always(Fault(status=503), path="/hand-4.png")) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy)
        close_clients()
        assert make(tmp_path / "out", "--labels", films[1], "--images", url, *skip) == 2
    error = capsys.readouterr().err
    assert f"error: {url}/hand-4.png: cannot be read" in error
    assert "got:      the store answers HTTP 503 (" in error
    assert not (tmp_path / "out" / MANIFEST_NAME).exists()


@pytest.mark.fault("B5")
def test_a_second_run_below_a_prefix_is_refused_and_changes_nothing(
    tmp_path: Path, s3: Bucket, capsys: pytest.CaptureFixture[str]
):
    films, out = write_films(tmp_path / "films", 12), s3.prefix / "set"
    with prefix_lock(out, "make-shards"):
        held = objects_in(out)
        assert make_at(out, *films) == 2
        assert objects_in(out) == held
    error = capsys.readouterr().err
    assert f"error: {out}/make_shards.lock: another run of `wds-bone make-shards` holds this lock" in error
    assert f"got:      process {os.getpid()} on " in error
    assert make_at(out, *films) == 0
    assert "make_shards.lock" not in objects_in(out)


def test_only_one_of_two_writers_creates_an_object(bucket: Bucket):
    client, url = client_of(bucket.prefix), bucket.prefix / "lock"
    client.write(url, b"first", only_if_absent=True)
    with pytest.raises(FileExistsError):
        client.write(url, b"second", only_if_absent=True)
    assert client.read_all(url, max_bytes=10) == b"first"


def test_splits_are_added_and_replaced(tmp_path: Path, s3: Bucket, capsys: pytest.CaptureFixture[str]):
    out = s3.prefix / "set"
    train, test = write_films(tmp_path / "a", 20), write_films(tmp_path / "b", 6, first=20)
    for place in (out, tmp_path / "local"):
        for films, split in ((train, "train"), (test, "test")):
            assert make_at(place, *films, "--split", split) == 0  # type: ignore[arg-type]
        assert make_at(place, *test, "--split", "test", "--size", "24") == 2  # type: ignore[arg-type]
        assert "already has a split 'test'" in capsys.readouterr().err
        fewer = write_films(tmp_path / "c", 5)
        assert make_at(place, *fewer, "--split", "train") == 2  # type: ignore[arg-type]
        assert "already has a split 'train'" in capsys.readouterr().err
        assert make_at(place, *fewer, "--split", "train", "--replace") == 0  # type: ignore[arg-type]
    assert objects_in(out) == files_in(tmp_path / "local")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/set", "hf://datasets/owner/name", "s3://shards/set.tar"])
def test_a_url_that_cannot_hold_a_set_is_refused_at_once(tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]):
    assert make_at(url, "--synthetic", "8") == 2
    error = capsys.readouterr().err
    assert f"error: {url}: " in error
    assert "is not a prefix" in error or "expected: a path, or a URL of one of s3, gs, az" in error


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/set", "hf://datasets/owner/name/train-{0..3}.tar"])
def test_shards_next_to_which_nothing_can_be_written_are_not_indexed(url: str, capsys: pytest.CaptureFixture[str]):
    assert index([url]) == 2
    assert "nothing can be written there" in (error := capsys.readouterr().err)
    assert "do:       copy the shards to a local disk, and index them there" in error


def test_credentials_that_may_not_write_are_an_error_that_names_the_prefix(
    s3: Bucket, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert make_at("s3://no-such-bucket/set", "--synthetic", "8") == 2
    error = capsys.readouterr().err
    assert "error: s3://no-such-bucket/set/make_shards.lock: cannot be written: " in error
    assert s3.prefix


def test_shards_of_another_tool_are_indexed_where_they_are(tmp_path: Path, bucket: Bucket):
    make(tmp_path / "set", *write_films(tmp_path / "films", 20))
    for path in (tmp_path / "set").iterdir():
        if path.suffix != ".tar":
            path.unlink()
    url = bucket.upload(tmp_path / "set", "set")
    assert index([url]) == index([str(tmp_path / "set")]) == 0
    assert objects_in(url) == files_in(tmp_path / "set")
    assert MANIFEST_NAME in objects_in(url)
    assert np.load(tmp_path / "set" / "train-000000.index.npy").size
