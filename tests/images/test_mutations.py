"""Test that any bytes give an image or an `ImageError`, within 1 GiB and 10 s."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings

from tests.images.limited_reader import LimitedReader
from tests.images.mutations import SEEDS, damaged_files

NUM_FILES = int(os.environ.get("NUM_DAMAGED_FILES", "250"))


@pytest.fixture(scope="module")
def reader() -> Iterator[LimitedReader]:
    with LimitedReader() as limited:
        yield limited


def test_the_intact_films_are_read(reader: LimitedReader, tmp_path: Path) -> None:
    outcomes = {}
    for name, contents in SEEDS.items():
        (tmp_path / name).write_bytes(contents())
        outcomes[name] = reader.outcome(tmp_path / name)
    expected = dict.fromkeys(SEEDS, "image") | {"one-bit.tif": "error"}
    assert outcomes == expected


@settings(max_examples=NUM_FILES)
@given(contents=damaged_files())
@pytest.mark.fault("A8", "A9")
def test_a_damaged_film_is_an_image_or_an_image_error(
    contents: bytes, reader: LimitedReader, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "film"
    path.write_bytes(contents)
    assert reader.outcome(path) in ("image", "error")
