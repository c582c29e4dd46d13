"""Test how labels and films are joined: by name, by number or by path; what nobody labeled is counted."""

import os
from pathlib import Path

import pytest
from PIL import Image

from tests.sample_sets import image_of
from tests.sharding.film_sets import keys, make, write_films
from wds_bone.errors import ImageError
from wds_bone.images.files import find_images
from wds_bone.labels.read import LabelColumns, RejectedSample
from wds_bone.make_shards import main
from wds_bone.sharding.source_images import read_sources
from wds_bone.sharding.sources import film_sources, find_film
from wds_bone.shards.manifest import ImageFormat


def write_named_films(folder: Path, names: list[str]) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image_of(number, 16)).save(folder / name, "PNG")


def write_table(folder: Path, ids: list[str]) -> Path:
    path = folder / "labels.csv"
    path.write_text("id,boneage,male\n" + "".join(f'"{identity}",90,{n % 2}\n' for n, identity in enumerate(ids)))
    return path


def test_a_file_of_another_kind_is_not_said_to_have_other_leading_zeros(tmp_path: Path):
    (tmp_path / "films").mkdir()
    for name in ("1.bmp", "2.jp2", "00001.txt"):
        (tmp_path / "films" / name).write_bytes(b"another format")
    with pytest.raises(ImageError, match=r"other files: 1 \.txt, 1 \.bmp, 1 \.jp2; 0 with a label\n") as caught:
        film_sources(write_table(tmp_path, ["1", "2"]), [tmp_path / "films"], LabelColumns(), rejected=None)
    assert "--id-width" not in str(caught.value)


@pytest.mark.parametrize(
    ("ids", "films", "width"), [(["1", "12"], ["00001.png", "00012.png"], 5), (["007", "042"], ["7.png", "42.png"], 1)]
)
def test_ids_with_other_leading_zeros_are_named_and_joined_with_id_width(
    ids: list[str], films: list[str], width: int, tmp_path: Path
):
    write_named_films(tmp_path / "films", films)
    table = write_table(tmp_path, ids)
    message = f"the first is '{ids[0]}'(?s:.*){films[0]}(?s:.*)join '{ids[0]}' and '{films[0]}' with --id-width {width}"
    with pytest.raises(ImageError, match=message):
        film_sources(table, [tmp_path / "films"], LabelColumns(), rejected=None)
    found = film_sources(table, [tmp_path / "films"], LabelColumns(id_width=width), rejected=None)
    assert [source.label.key for source in found.sources] == [Path(film).stem for film in films]
    assert found.unlabeled == ""


@pytest.mark.fault("A6")
def test_ids_that_are_not_keys_find_their_films_with_safe_keys(tmp_path: Path):
    write_named_films(
        tmp_path / "films", ["hand 1.png", "1.2.840.png", "a/left.png", "b/right.png", "Müller.png", "7.png"]
    )
    ids = ["hand 1", "1.2.840.png", "films/a/left", r"b\right", "Mu\N{COMBINING DIAERESIS}ller", "7"]
    columns = LabelColumns(safe_keys=True)
    found = film_sources(write_table(tmp_path, ids), [tmp_path / "films"], columns, rejected=None)
    names = [source.image.name for source in found.sources if isinstance(source.image, Path)]
    assert names == ["hand 1.png", "1.2.840.png", "left.png", "right.png", "Müller.png", "7.png"]
    assert [source.id for source in found.sources] == ["hand 1", "1.2.840", "films/a/left", r"b\right", "Müller", "7"]
    assert found.unlabeled == ""


def test_a_film_in_another_folder_than_its_id_says_is_not_taken(tmp_path: Path):
    write_named_films(tmp_path, ["p2/1.png"])
    files = find_images([tmp_path])
    for identity in ("p2/1", "./p2/1", "1"):
        assert find_film(identity, files) == tmp_path / "p2" / "1.png"
    for identity in ("p1/1", "../p2/1", "p2/2", "/", ""):
        assert find_film(identity, files) is None


@pytest.mark.fault("A7")
def test_labels_without_a_film_are_refused_or_rejected_and_counted(tmp_path: Path):
    write_named_films(tmp_path / "films", ["0.png", "1.png", "9.png"])
    table, rejected = write_table(tmp_path, ["0", "1", "2", "3"]), list[RejectedSample]()
    with pytest.raises(ImageError, match="no image found for 2 of 4 labels; the first is '2'"):
        film_sources(table, [tmp_path / "films"], LabelColumns(), rejected=None)
    found = film_sources(table, [tmp_path / "films"], LabelColumns(), rejected=rejected)
    assert [(bad.key, bad.cause) for bad in rejected] == [("2", "no image"), ("3", "no image")]
    assert (len(found.sources), found.unlabeled) == (2, "1 images")


@pytest.mark.fault("A7")
def test_labels_with_several_films_are_refused_or_rejected_and_counted(tmp_path: Path):
    write_named_films(tmp_path / "films", ["0.png", "1.png", "2.png", "a/1.png", "2.dcm"])
    (tmp_path / "films" / "2.txt").write_text("no image")
    table, rejected = write_table(tmp_path, ["0", "1", "2"]), list[RejectedSample]()
    with pytest.raises(ImageError, match="another image has the same key"):
        film_sources(table, [tmp_path / "films"], LabelColumns(), rejected=None)
    found = film_sources(table, [tmp_path / "films"], LabelColumns(), rejected=rejected)
    problems = [
        f"several images of this name in the folders ({names})" for names in ("1.png and 1.png", "2.dcm and 2.png")
    ]
    assert rejected == [RejectedSample(*row) for row in zip("12", ["several images"] * 2, problems, strict=True)]
    assert [source.label.key for source in found.sources] == ["0"]
    assert found.unlabeled == ""


def rename_films(folder: Path, suffix: str) -> None:
    for film in folder.glob("*.png"):
        film.rename(film.with_suffix(suffix))


@pytest.mark.fault("A7")
def test_files_that_nobody_labeled_are_counted_even_if_their_names_are_equal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = write_films(tmp_path / "films", 4)
    for part in ("p1", "p2"):
        (tmp_path / "films" / part).mkdir()
        for name in ("DICOMDIR", "thumb.png", "notes.bmp"):
            (tmp_path / "films" / part / name).write_bytes(b"nothing that is ever opened")
        (tmp_path / "films" / part / "thumb.png").chmod(0)
    assert make(tmp_path / "out", *arguments, "--split", "train") == 0
    assert keys(tmp_path / "out", "train") == {f"hand-{number}" for number in range(4)}
    expected = "files without a label, not used: 2 images; other files: 2 without suffix, 2 .bmp, 1 .csv"
    assert expected in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".dicom", ".ima", ""])
def test_films_are_recognized_by_their_contents(suffix: str, tmp_path: Path) -> None:
    arguments = write_films(tmp_path / "far", 4)
    rename_films(tmp_path / "far", suffix)
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "linked").symlink_to(tmp_path / "far")
    arguments[-1] = str(tmp_path / "films")
    assert make(tmp_path / "out", *arguments, "--split", "train") == 0
    assert len(keys(tmp_path / "out", "train")) == 4


@pytest.mark.fault("A7")
def test_the_error_for_missing_films_counts_what_was_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = write_films(tmp_path / "films", 4)
    for film in (tmp_path / "films").glob("*.png"):
        film.write_bytes(b"\0\0\0\x0cjP  \r\n\x87\n")
    rename_films(tmp_path / "films", ".jp2")
    assert make(tmp_path / "out", *arguments) == 2
    error = capsys.readouterr().err
    assert "no image found for 4 of 4 labels; the first is 'hand-0'" in error
    assert "got:      0 images; other files: 4 .jp2, 1 .csv; 0 with a label" in error


@pytest.mark.fault("A7", "A8")
def test_films_that_cannot_be_opened_are_skipped_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = write_films(tmp_path / "films", 6)
    films = tmp_path / "films"
    for number in (0, 1, 2):
        (films / f"hand-{number}.png").unlink()
    (films / "hand-0.png").symlink_to("nowhere")
    os.mkfifo(films / "hand-1.png")
    assert make(tmp_path / "out", *arguments, "--split", "train") == 2
    assert "hand-2" in capsys.readouterr().err
    skip = ("--split", "train", "--on-bad", "skip", "--max-bad", "3")
    assert make(tmp_path / "out", *arguments, *skip) == 0
    assert "bad image: 2, no image: 1" in capsys.readouterr().out
    assert keys(tmp_path / "out", "train") == {"hand-3", "hand-4", "hand-5"}
    bad = (tmp_path / "out" / "bad.jsonl").read_text()
    assert "hand-0.png: cannot be read: No such file or directory" in bad
    assert "hand-1.png: a FIFO instead of a film" in bad
    assert str(tmp_path) not in bad


@pytest.mark.fault("A7")
def test_a_folder_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    arguments = write_films(tmp_path / "films", 2)
    (tmp_path / "films" / "itself").symlink_to("itself")
    assert make(tmp_path / "out", *arguments, "--split", "train") == 0
    assert main([*arguments[:-1], str(tmp_path / "absent"), "--out", str(tmp_path / "other")]) == 2


@pytest.mark.fault("A10")
def test_a_film_whose_size_changes_after_planning_is_refused(tmp_path: Path) -> None:
    write_films(tmp_path, 1)
    (source,) = film_sources(tmp_path / "labels.csv", [tmp_path], LabelColumns(), rejected=None).sources
    assert isinstance(source.image, Path)
    with source.image.open("ab") as file:
        file.write(b"more")
    with pytest.raises(ImageError, match=r"hand-0\.png: changed since the work was planned"):
        raise next(read_sources([source], ImageFormat("png", 16, 16)))[1]  # type: ignore[misc]
