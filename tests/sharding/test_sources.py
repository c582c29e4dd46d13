"""Test that labels find their films: by name, with another number of zeros, or by the end of a path."""

from pathlib import Path

import pytest
from PIL import Image

from tests.sample_sets import image_of
from wds_bone.errors import ImageError
from wds_bone.labels.read import LabelColumns, RejectedSample
from wds_bone.sharding.sources import film_sources, find_film


def write_films(folder: Path, names: list[str]) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image_of(number, 16)).save(folder / name, "PNG")


def write_table(folder: Path, ids: list[str]) -> Path:
    path = folder / "labels.csv"
    path.write_text("id,boneage,male\n" + "".join(f'"{identity}",90,{n % 2}\n' for n, identity in enumerate(ids)))
    return path


@pytest.mark.parametrize(
    ("ids", "films", "width"), [(["1", "12"], ["00001.png", "00012.png"], 5), (["007", "042"], ["7.png", "42.png"], 1)]
)
def test_ids_with_other_leading_zeros_are_named_and_joined_with_id_width(
    ids: list[str], films: list[str], width: int, tmp_path: Path
):
    write_films(tmp_path / "films", films)
    table = write_table(tmp_path, ids)
    message = f"the first is '{ids[0]}'(?s:.*){films[0]}(?s:.*)join '{ids[0]}' and '{films[0]}' with --id-width {width}"
    with pytest.raises(ImageError, match=message):
        film_sources(table, [tmp_path / "films"], LabelColumns(), rejected=None)
    found = film_sources(table, [tmp_path / "films"], LabelColumns(id_width=width), rejected=None)
    assert [source.label.key for source in found.sources] == [Path(film).stem for film in films]
    assert found.num_unlabeled == 0


@pytest.mark.fault("A6")
def test_ids_that_are_not_keys_find_their_films_with_safe_keys(tmp_path: Path):
    write_films(tmp_path / "films", ["hand 1.png", "1.2.840.png", "a/left.png", "b/right.png", "Müller.png", "7.png"])
    ids = ["hand 1", "1.2.840.png", "films/a/left", r"b\right", "Mu\N{COMBINING DIAERESIS}ller", "7"]
    columns = LabelColumns(safe_keys=True)
    found = film_sources(write_table(tmp_path, ids), [tmp_path / "films"], columns, rejected=None)
    names = [source.image.name for source in found.sources if isinstance(source.image, Path)]
    assert names == ["hand 1.png", "1.2.840.png", "left.png", "right.png", "Müller.png", "7.png"]
    assert [source.id for source in found.sources] == ["hand 1", "1.2.840", "films/a/left", r"b\right", "Müller", "7"]
    assert found.num_unlabeled == 0


def test_a_film_in_another_folder_than_its_id_says_is_not_taken():
    films = {"1": Path("films/p2/1.png")}
    assert find_film("p2/1", films) == find_film("./p2/1", films) == find_film("1", films) == films["1"]
    for identity in ("p1/1", "../p2/1", "p2/2", "/", ""):
        assert find_film(identity, films) is None


@pytest.mark.fault("A7")
def test_labels_without_a_film_are_refused_or_rejected_and_counted(tmp_path: Path):
    write_films(tmp_path / "films", ["0.png", "1.png", "9.png"])
    table, rejected = write_table(tmp_path, ["0", "1", "2", "3"]), list[RejectedSample]()
    with pytest.raises(ImageError, match="no image found for 2 of 4 labels; the first is '2'"):
        film_sources(table, [tmp_path / "films"], LabelColumns(), rejected=None)
    found = film_sources(table, [tmp_path / "films"], LabelColumns(), rejected=rejected)
    assert [(bad.key, bad.cause) for bad in rejected] == [("2", "no image"), ("3", "no image")]
    assert (len(found.sources), found.num_unlabeled) == (2, 1)
