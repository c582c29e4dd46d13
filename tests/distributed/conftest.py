"""The set of the tests with several processes."""

from pathlib import Path

import pytest

from tests.sample_sets import write_set


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 training samples and 11 validation samples, 32 x 32 pixels."""
    return write_set(tmp_path_factory.mktemp("set") / "shards", size=32, train=[17, 3, 20], val=[6, 5])
