"""Objects are read from and written to real servers of three clouds."""

import io
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.servers.azure import azure_environment, upload_azure
from tests.servers.gcs import gcs_environment, upload_gcs
from tests.servers.s3 import s3_environment, upload_s3
from wds_bone.objects.cloud_objects import PART_BYTES, CloudObjects
from wds_bone.objects.protocol import ChangedError, RemoteError, Version
from wds_bone.objects.url import Url, parse_url

CONTENTS = bytes(range(256)) * 3000


@pytest.fixture(params=["s3", "gs", "az"])
def prefix(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Url:
    """A prefix with the objects `a.tar` and `folder/b.tar`."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.tar").write_bytes(CONTENTS)
    (tmp_path / "folder" / "b.tar").write_bytes(b"b")
    (tmp_path / "empty").touch()
    for name in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_", "AZURE_", "STORAGE_"))]:
        monkeypatch.delenv(name)
    fixture, environment, upload = {
        "s3": ("s3_url", s3_environment, upload_s3),
        "gs": ("gcs_url", gcs_environment, upload_gcs),
        "az": ("azure_url", azure_environment, upload_azure),
    }[request.param]
    server = request.getfixturevalue(fixture)
    for name, value in environment(server).items():
        monkeypatch.setenv(name, value)
    place = {"container" if request.param == "az" else "bucket": "bones"}
    return parse_url(upload(server, tmp_path, prefix="set/", **place))


@pytest.fixture
def client() -> Iterator[CloudObjects]:
    opened = CloudObjects()
    yield opened
    opened.close()


def skip_where_nothing_can_be_written(prefix: Url) -> None:
    if prefix.scheme == "gs":
        pytest.skip("fake-gcs-server lacks the XML API of Google, which obstore writes with")


def test_ranges_and_whole_objects_are_read(prefix: Url, client: CloudObjects):
    url = prefix / "a.tar"
    version = client.version(url)
    assert version.num_bytes == len(CONTENTS)
    assert version.tag
    assert client.read(url, 1000, 20_000, version=version) == CONTENTS[1000:21_000]
    assert client.read(url, 5, 700_000) == CONTENTS[5:700_005]
    assert client.read_all(url, max_bytes=len(CONTENTS)) == CONTENTS
    assert client.read_all(prefix / "empty", max_bytes=0) == b""
    with client.open(url) as file:
        file.seek(100)
        assert file.read() == CONTENTS[100:]
    assert client.traffic.bytes_fetched >= 2 * len(CONTENTS)
    assert client.traffic.retries == 0


def test_an_endpoint_of_the_environment_applies_to_a_profile_too(
    s3_url: str, tmp_path: Path, client: CloudObjects, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "a.tar").write_bytes(CONTENTS)
    prefix = parse_url(upload_s3(s3_url, tmp_path, bucket="profiles"))
    variables = s3_environment(s3_url)
    names = ("aws_access_key_id", "aws_secret_access_key")
    lines = ["[default]", *(f"{name} = {variables.pop(name.upper())}" for name in names)]
    (tmp_path / "credentials").write_text("\n".join(lines))
    variables |= {"AWS_PROFILE": "default", "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials")}
    for name in names:
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert client.version(prefix / "a.tar").num_bytes == len(CONTENTS)


def test_objects_directly_below_a_prefix_are_listed(prefix: Url, client: CloudObjects):
    assert list(client.names(prefix)) == ["a.tar", "empty"]
    assert list(client.names(prefix / "folder")) == ["b.tar"]
    assert list(client.names(prefix / "nothing")) == []


def test_objects_are_written_and_deleted(prefix: Url, client: CloudObjects):
    skip_where_nothing_can_be_written(prefix)
    url = prefix / "new"
    client.write(url, b"1", only_if_absent=True)
    with pytest.raises(FileExistsError):
        client.write(url, b"2", only_if_absent=True)
    assert client.read_all(url, max_bytes=1) == b"1"
    client.write(url, b"22")
    assert client.read_all(url, max_bytes=2) == b"22"
    client.delete(url)
    client.delete(url)
    with pytest.raises(FileNotFoundError):
        client.version(url)


def test_a_file_that_is_sent_in_parts_is_written_and_copied_whole(prefix: Url, client: CloudObjects):
    skip_where_nothing_can_be_written(prefix)
    contents = CONTENTS * (2 * PART_BYTES // len(CONTENTS)) + b"the end"
    client.write(prefix / "large", io.BytesIO(contents))
    client.copy(prefix / "large", prefix / "copy")
    assert client.read_all(prefix / "copy", max_bytes=len(contents)) == contents


def test_what_is_missing_is_an_error_at_once(prefix: Url, client: CloudObjects):
    with pytest.raises(FileNotFoundError, match="no such object"):
        client.read(prefix / "gone", 0, 1)
    with pytest.raises(FileNotFoundError, match="no such"):
        client.version(replace(prefix, host="no-such-bucket") / "a.tar")
    assert client.traffic.retries == 0


def test_bytes_after_the_end_are_an_error(prefix: Url, client: CloudObjects):
    with pytest.raises(RemoteError):
        client.read(prefix / "a.tar", len(CONTENTS) - 10, 20)
    with pytest.raises(RemoteError):
        client.read(prefix / "a.tar", len(CONTENTS) + 10, 20)


@pytest.mark.fault("C8")
def test_an_object_that_was_replaced_is_an_error(prefix: Url, client: CloudObjects):
    skip_where_nothing_can_be_written(prefix)
    url = prefix / "a.tar"
    version = client.version(url)
    client.write(url, CONTENTS[::-1])
    with pytest.raises(ChangedError, match="replaced"):
        client.read(url, 0, 100, version=version)
    with pytest.raises(ChangedError, match="replaced"):
        client.read(url, 0, 100, version=Version(5, None))
