"""Fixtures for streams over a network."""

from pathlib import Path

import pytest

from tests.network.streams import Row, epoch_of
from wds_bone.objects import connections, retries


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less than for real servers."""
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(retries, "LONGEST_WAIT_SECONDS", 0.2)


@pytest.fixture
def short_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up after two seconds without progress, of which a server may be silent for half a second."""
    monkeypatch.setattr(retries, "TIMEOUT_SECONDS", 2.0)
    monkeypatch.setattr(connections, "PACE_SECONDS", 0.5)


@pytest.fixture(scope="module")
def local_rows(tiny_shards: Path) -> list[Row]:
    """What an epoch of the training samples of `tiny_shards` delivers."""
    return epoch_of(tiny_shards)[0]


@pytest.fixture(params=["none", "folder"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Either no cache, or an empty folder for one."""
    return "none" if request.param == "none" else str(tmp_path / "cache")


@pytest.fixture
def short_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a server be silent for half a second."""
    monkeypatch.setattr(connections, "PACE_SECONDS", 0.5)
