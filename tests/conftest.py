"""Fixtures for all tests."""

import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.sample_sets import write_set

# Under nohup, this process and the commands that it starts would ignore SIGHUP, which tests send.
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def tiny_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a manifest, 40 training samples in three shards and 10 validation samples, 16 x 16 pixels."""
    return write_set(tmp_path_factory.mktemp("tiny") / "shards", train=[17, 3, 20], val=[10])


# Deadlines would measure the machine, not the code; using the same examples in every run makes failures reproducible.
settings.register_profile(
    "steady", deadline=None, max_examples=50, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")
