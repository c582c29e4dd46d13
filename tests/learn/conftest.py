"""Fixtures for the tests of training."""

from collections.abc import Iterator

import pytest

from tests.learn.runs import one_thread


@pytest.fixture(scope="package", autouse=True)
def on_one_thread() -> Iterator[None]:
    with one_thread():
        yield
