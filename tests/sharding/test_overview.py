from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.sample_sets import write_set
from wds_bone.sharding.overview import HISTOGRAM_NAME, SHEET_NAME, draw_contact_sheet, format_counts, write_pictures
from wds_bone.shards.manifest import read_manifest


@pytest.mark.parametrize("encoding", ["jpg", "png", "npy"])
def test_the_contact_sheet_shows_the_stored_images(tmp_path: Path, encoding: str):
    folder = write_set(tmp_path / "set", size=64, encoding=encoding, train=[30, 30], val=[4])
    sheet = np.asarray(draw_contact_sheet(folder, read_manifest(folder / "manifest.json")).convert("L"))
    assert (sheet < 40).sum() > 1000  # the corners that mark girls, and the youngest ages
    assert len(np.unique(sheet)) > 20  # there are many gray levels because each age has its own


def test_the_same_set_gives_the_same_pictures(tmp_path: Path):
    contents = []
    for name in ("one", "two"):
        folder = write_set(tmp_path / name, train=[20], val=[4])
        write_pictures(folder, read_manifest(folder / "manifest.json"))
        contents.append([(folder / picture).read_bytes() for picture in (SHEET_NAME, HISTOGRAM_NAME)])
        for picture in (SHEET_NAME, HISTOGRAM_NAME):
            with Image.open(folder / picture) as image:
                assert image.width > 500
    assert contents[0] == contents[1]


def test_the_table_counts_every_sample_once(tiny_shards: Path):
    lines = format_counts(read_manifest(tiny_shards / "manifest.json")).splitlines()
    rows = {tuple(line.split()[:2]): [int(cell) for cell in line.split()[2:]] for line in lines[2:6]}
    assert set(rows) == {("train", "F"), ("train", "M"), ("val", "F"), ("val", "M")}
    assert sum(cells[0] for cells in rows.values()) == 50
    assert all(cells[0] == sum(cells[1:]) for cells in rows.values())
    assert "train: 40 samples in 3 shards" in lines[6]
    assert all(len(line) <= 80 for line in lines)
