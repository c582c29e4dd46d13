"""An empty prefix on a real server of each cloud, and what is in it."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.servers.azure import azure_environment, upload_azure
from tests.servers.gcs import gcs_environment, upload_gcs
from tests.servers.s3 import s3_environment, upload_s3
from wds_bone.objects.clients import client_of, close_clients
from wds_bone.objects.url import Url, parse_url

CLOUDS = ("s3", "gs", "az")
_NO_WRITES = "fake-gcs-server lacks the XML API of Google, which obstore writes with; it answers 'invalid uploadType'"
WRITABLE_CLOUDS = ("s3", pytest.param("gs", marks=pytest.mark.skip(reason=_NO_WRITES)), "az")
_KINDS = {
    "s3": ("s3_url", s3_environment, upload_s3, "bucket"),
    "gs": ("gcs_url", gcs_environment, upload_gcs, "bucket"),
    "az": ("azure_url", azure_environment, upload_azure, "container"),
}


@dataclass(frozen=True)
class Bucket:
    """A bucket of a server that is running; tests share it, so each one uses its own prefix."""

    prefix: Url
    send: Callable[[Path, str], str]

    def upload(self, folder: Path, name: str) -> str:
        """Copy the files of a folder below a prefix of this name, and return its URL."""
        self.send(folder, f"{self.prefix.path}/{name}/")
        return str(self.prefix / name)


def open_bucket(cloud: str, request: pytest.FixtureRequest, tmp_path: Path, patch: pytest.MonkeyPatch) -> Bucket:
    """Return a bucket of a cloud, with the environment variables with which it is found."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_", "AZURE_", "STORAGE_"))]:
        patch.delenv(name)
    fixture, environment, upload, noun = _KINDS[cloud]
    server = request.getfixturevalue(fixture)
    for name, value in environment(server).items():
        patch.setenv(name, value)
    close_clients()  # those of another test have its environment
    (tmp_path / "empty").mkdir()

    def send(folder: Path, prefix: str) -> str:
        return upload(server, folder, prefix=prefix, **{noun: "shards"})  # type: ignore[no-any-return, operator]

    send(tmp_path / "empty", "")
    return Bucket(parse_url(f"{cloud}://shards/{tmp_path.name}"), send)


def objects_in(prefix: Url | str) -> dict[str, bytes]:
    """Return the contents of all objects below a prefix, by the rest of their paths."""
    url = parse_url(prefix) if isinstance(prefix, str) else prefix
    client = client_of(url)
    return {name: client.read_all(url / name, max_bytes=2**30) for name in client.sizes(url)}


def files_in(folder: Path) -> dict[str, bytes]:
    """Return the contents of all files in a folder, by their relative paths."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
