"""Test how labels and films are joined: what nobody labeled is counted, and what is missing is named."""

import os
from pathlib import Path

import pytest

from tests.sharding.film_sets import keys, make, write_films
from wds_bone.errors import ImageError
from wds_bone.make_shards import main


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
    from wds_bone.labels.read import LabelColumns
    from wds_bone.sharding.sources import film_sources, read_source
    from wds_bone.shards.manifest import ImageFormat

    write_films(tmp_path, 1)
    (source,), _ = film_sources(tmp_path / "labels.csv", [tmp_path], LabelColumns(), rejected=None)
    assert isinstance(source.image, Path)
    with source.image.open("ab") as file:
        file.write(b"more")
    with pytest.raises(ImageError, match=r"hand-0\.png: changed since the work was planned"):
        read_source(source, ImageFormat("png", 16, 16))
