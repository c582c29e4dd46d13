"""Test `list_films`: what files, folders, patterns and lines of standard input mean."""

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.images.broken_inputs import DEEP_FILM, film_bytes
from tests.images.dicom_films import dicom_bytes
from tests.images.test_files import write_files
from wds_bone.images.files import count_by_suffix
from wds_bone.images.listing import FilmList, list_films


@pytest.fixture
def ward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder, which contains `ward` with films of several kinds and other files."""
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path / "ward", "2.png", "10.JPG", "broken.tif", "a/3.dcm", ".hidden.png")
    write_files(tmp_path / "ward", "a/IM0001", contents=dicom_bytes(DEEP_FILM))
    write_files(tmp_path / "ward", "b/scan.img", contents=film_bytes("PNG"))
    write_files(tmp_path / "ward", "DICOMDIR", contents=dicom_bytes(DEEP_FILM))
    write_files(tmp_path / "ward", "labels.csv", "a/notes.txt", "b/labels.csv", contents=b"id,gender\n")
    return tmp_path


def listed(words: Iterable[str], lines: Iterable[str] = ()) -> tuple[list[str], FilmList]:
    found = list_films(words, lines)
    return [str(film) for film in found.films], found


IN_WARD = ["ward/10.JPG", "ward/2.png", "ward/a/3.dcm", "ward/a/IM0001", "ward/b/scan.img", "ward/broken.tif"]


@pytest.mark.usefixtures("ward")
@pytest.mark.parametrize("word", ["ward", "ward/", "./ward", "war[d]", "w*", "~/ward", "file://HERE/ward"])
def test_a_folder_means_all_its_films_by_suffix_or_contents(
    word: str, ward: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(ward))
    films, found = listed([word.replace("HERE", str(ward))])
    assert [os.path.relpath(film) for film in films] == IN_WARD
    assert found.errors == []
    assert count_by_suffix(sorted(found.skipped)) == "2 .csv, 1 without suffix, 1 .txt"


@pytest.mark.usefixtures("ward")
def test_the_order_is_that_of_the_words_and_patterns_are_sorted() -> None:
    films, found = listed(["ward/b", "ward/2.png", "ward/*.*[gf]", "ward/2.png", "ward/**/*.dcm"])
    expected = ["ward/b/scan.img", "ward/2.png", "ward/2.png", "ward/broken.tif", "ward/2.png", "ward/a/3.dcm"]
    assert films == expected
    assert found.errors == []


@pytest.mark.usefixtures("ward")
def test_a_file_that_a_pattern_matches_twice_is_one_film() -> None:
    films, _ = listed(["ward/a/**"])
    assert sorted(films) == ["ward/a/3.dcm", "ward/a/IM0001", "ward/a/notes.txt"]


def test_a_path_that_exists_means_itself(ward: Path) -> None:
    write_files(ward, "film[1].png", "film1.png", "-.png")
    assert listed(["film[1].png", "./-.png"])[0] == ["film[1].png", "-.png"]


@pytest.mark.usefixtures("ward")
def test_lines_take_the_place_of_the_dash() -> None:
    films, found = listed(["x.png", "-", "y.png"], ["1.png\n", "\n", "ward/b\r\n", "ward/*.png\n", "2.png"])
    assert films == ["x.png", "1.png", "ward/b/scan.img", "ward/2.png", "2.png", "y.png"]
    assert found.errors == []


@pytest.mark.fault("H1")
def test_a_word_that_names_no_film_is_an_error_and_the_others_are_listed(ward: Path) -> None:
    (ward / "empty").mkdir()
    write_files(ward, "texts/a.txt")
    films, found = listed(["empty", "ward/b", "texts", "*.jpg", "s3://bucket/1.png", "ward/2.png"])
    assert films == ["ward/b/scan.img", "ward/2.png"]
    assert [error.problem for error in found.errors] == [
        "empty: no images",
        "texts: no films in this folder",
        "*.jpg: no film",
        "IMAGE s3://...: is not a local path",
    ]


@pytest.mark.fault("H1")
def test_links_that_lead_nowhere_are_listed_because_reading_them_says_why(ward: Path) -> None:
    (ward / "ward" / "b" / "loop").symlink_to("loop")
    (ward / "ward" / "b" / "gone").symlink_to(ward / "nowhere")
    assert listed(["ward/b", "a\0*b"])[0] == ["ward/b/gone", "ward/b/loop", "ward/b/scan.img", "a\0*b"]
