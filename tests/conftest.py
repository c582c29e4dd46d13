"""Fixtures for all tests."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.sample_sets import write_set
from tests.servers.azure import azurite
from tests.servers.gcs import fake_gcs
from tests.servers.s3 import moto_s3

# Under nohup, this process and the commands that it starts would ignore SIGHUP, which tests send.
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def tiny_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a manifest, 40 training samples in three shards and 10 validation samples, 16 x 16 pixels."""
    return write_set(tmp_path_factory.mktemp("tiny") / "shards", train=[17, 3, 20], val=[10])


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    """The URL of an S3 server; a test creates its own bucket, see `tests.servers.s3`."""
    with moto_s3() as url:
        yield url


@pytest.fixture(scope="session")
def azure_url() -> Iterator[str]:
    """The URL of an account of an Azure server; a test creates its own container, see `tests.servers.azure`."""
    with azurite() as url:
        yield url


@pytest.fixture(scope="session")
def gcs_url() -> Iterator[str]:
    """The URL of a Google Cloud Storage server; a test creates its own bucket, see `tests.servers.gcs`."""
    with fake_gcs() as url:
        yield url


# Deadlines would measure the machine, not the code; using the same examples in every run makes failures reproducible.
settings.register_profile(
    "steady", deadline=None, max_examples=50, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")
