"""moto's S3 server, for tests and benchmarks."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.servers.link import Link
from tests.servers.process import running
from tests.servers.upload import upload

# What a canary test looks for in all that is written and printed.
ACCESS_KEY, SECRET_KEY = "AKIACANARYCANARY1234", "canary/secret/of/s3/canary/canary/canary"


@contextmanager
def moto_s3(link: Link | None = None) -> Iterator[str]:
    """Run an S3 server without buckets, here or at the server's end of a link; it accepts every signature."""
    if find_spec("moto") is None:
        pytest.skip("needs moto (pip install 'moto[server]')")
    prefix, address = (link.server, link.address) if link else ((), "127.0.0.1")
    command = [*prefix, sys.executable, "-W", "ignore", "-m", "moto.server", "--host", address, "--port", "0"]
    with running(command, ready=r"Running on (http://[\d.]+:\d+)") as match:
        yield match[1]


def s3_environment(url: str) -> dict[str, str]:
    """Return the environment variables with which the usual clients of S3 find the server."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def upload_s3(url: str, folder: Path, *, bucket: str, prefix: str = "") -> str:
    """Create a bucket if it is missing, copy the files of a folder into it, and return the address of the prefix."""
    # moto wants a signature for objects, but does not check it.
    headers = {"Authorization": f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20260101/us-east-1/s3/aws4_request"}
    upload(f"{url}/{bucket}", headers=headers)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        upload(f"{url}/{bucket}/{prefix}{path.relative_to(folder)}", path.read_bytes(), headers=headers)
    return f"s3://{bucket}/{prefix}"
