from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.sample_sets import write_set
from wds_bone.sharding.overview import HISTOGRAM_NAME, SHEET_NAME
from wds_bone.sharding.pictures import draw_contact_sheet, draw_histogram, write_pictures
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


def test_the_histogram_has_a_bar_per_gender_and_year_and_names_the_counts(tmp_path: Path):
    manifest = read_manifest(write_set(tmp_path / "set", train=[20], val=[4]) / "manifest.json")
    figure = draw_histogram(manifest)
    for axes, (name, split) in zip(figure.axes, sorted(manifest.splits.items()), strict=True):
        genders, histogram = split.labels["genders"], split.labels["age_histogram"]
        title = axes.get_title(loc="left")
        assert title.startswith(f"{name}: {genders['F']} girls, {genders['M']} boys, ")
        mean, sd = (split.labels["age_months"][name] for name in ("mean", "sd"))
        assert title.endswith(f", mean {mean:.1f} months, SD {sd:.1f}")
        assert [bar.get_height() for bar in axes.patches] == [*histogram["F"], *histogram["M"]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["girls", "boys"]
