"""Fixtures for all tests."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from tests.learn.runs import train_argv, write_small_set
from tests.sample_sets import write_set
from tests.servers.azure import azurite
from tests.servers.gcs import fake_gcs
from tests.servers.s3 import moto_s3
from wds_bone.train import main as train

# Under nohup, this process and the commands that it starts would ignore SIGHUP, which tests send.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in a shell's job in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
    del os.environ[name]  # the servers of the tests are on this machine
# With tiny tensors more threads are slower, especially if several processes run tests.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def own_opener(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test inherit the proxies of an earlier one: `urlopen` keeps those that it finds when first called."""
    monkeypatch.setattr("urllib.request._opener", None)


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


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a manifest, 10 training samples in two shards and 5 validation samples, 32 x 32 pixels."""
    return write_small_set(tmp_path_factory.mktemp("small") / "shards")


@pytest.fixture(scope="session")
def finished(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run, which tests must not change."""
    out = tmp_path_factory.mktemp("finished") / "run"
    assert train(train_argv(shards, out)) == 0
    return out


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, which a test may change."""
    return Path(shutil.copytree(finished, tmp_path / "copied"))


@pytest.fixture(scope="session")
def stopped(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was stopped after its first validation, in step 3 of 5; tests must not change it."""
    out = tmp_path_factory.mktemp("stopped") / "run"
    assert train(train_argv(shards, out, "--max-steps", "3")) == 0
    return out


# Deadlines would measure the machine, not the code; using the same examples in every run makes failures reproducible.
settings.register_profile(
    "steady", deadline=None, max_examples=50, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")
