"""Test `named_inputs` and `table_inputs`: every film and every row is an input, an error or counted."""

from pathlib import Path

import pytest

from tests.images.broken_inputs import DEEP_FILM
from tests.images.dicom_films import dicom_bytes
from tests.images.test_files import write_files
from wds_bone.errors import ImageError, LabelError
from wds_bone.inference.inputs import Input, Inputs, named_inputs, table_inputs
from wds_bone.labels.columns import LabelColumns


def write_ward(folder: Path, table: str, *films: str) -> Path:
    """Write the table of genders next to the films, which are empty, and return its path."""
    write_files(folder, *films)
    (folder / "ward.csv").write_text(table)
    return folder / "ward.csv"


def found_in(table: Path, columns: LabelColumns | None = None) -> Inputs:
    return table_inputs(table, [table.parent], columns or LabelColumns())


def test_the_key_of_a_named_film_is_its_name_without_the_image_suffix(tmp_path: Path) -> None:
    write_files(tmp_path, "a/7.png", "b (1).DCM", "1.2.840", "x.img")
    words = [str(tmp_path / name) for name in ("a", "b (1).DCM", "1.2.840", "x.img", "7.tar.jpg")]
    found = named_inputs(words, [], gender="F")
    assert [film.key for film in found.films] == ["7", "b (1)", "1.2.840", "x.img", "7.tar"]
    assert {film.gender for film in found.films} == {"F"}
    assert (found.errors, found.remark) == ([], "")


def test_files_of_a_folder_that_are_not_films_are_counted(tmp_path: Path) -> None:
    write_files(tmp_path, "7.png", "a/notes.txt", "b/notes.txt", "ward.csv")
    found = named_inputs([str(tmp_path), str(tmp_path), str(tmp_path / "7.png")], [], gender="M")
    assert len(found.films) == 3
    assert found.remark == "files in the folders that are not images: 2 .txt, 1 .csv"


def test_without_a_gender_each_dicom_film_states_its_own(tmp_path: Path) -> None:
    for name, elements in {"f": {"PatientSex": "F"}, "m": {"PatientSex": "M"}, "o": {"PatientSex": "O"}}.items():
        (tmp_path / f"{name}.dcm").write_bytes(dicom_bytes(DEEP_FILM, **elements))
    write_files(tmp_path, "x.png", contents=b"\x89PNG\r\n\x1a\n")
    found = named_inputs([str(tmp_path)], [], gender=None)
    assert [(film.key, film.gender) for film in found.films] == [("f", "F"), ("m", "M")]
    assert [error.problem for error in found.errors] == [
        f"{tmp_path / 'o.dcm'}: PatientSex is not a gender",
        f"{tmp_path / 'x.png'}: only DICOM states a gender",
    ]


def test_the_films_of_a_table_are_in_its_order_with_its_ids_and_genders(tmp_path: Path) -> None:
    table = write_ward(tmp_path, "id,sex\n3,F\na/7,m\nMüller 1.png,F\n", "Müller 1.png", "a/7.png", "b/7.png", "3.jpg")
    films = [("3.jpg", "3", "F"), ("a/7.png", "a/7", "M"), ("Müller 1.png", "Müller 1", "F")]
    found = found_in(table)
    assert found.films == [Input(tmp_path / path, key, gender) for path, key, gender in films]
    assert found.errors == []
    assert found.remark == f"files without a row in {table}: 1 images"


def test_a_table_between_its_films_and_rows_for_all_of_them_leave_nothing_to_remark(tmp_path: Path) -> None:
    assert found_in(write_ward(tmp_path, "id,sex\n3,F\n4,F\n", "3.png", "4.png")).remark == ""


@pytest.mark.fault("A5", "A7", "H1")
def test_each_row_without_gender_or_film_or_with_two_films_is_an_error(tmp_path: Path) -> None:
    table = write_ward(
        tmp_path, "id,sex\n1,F\n2,\n3,F\n4,M\n,M\n", "1.png", "2.png", "a/4.png", "b/4.png", "5.png", "notes.txt"
    )
    found = found_in(table)
    assert [film.key for film in found.films] == ["1"]
    assert [error.problem for error in found.errors] == [
        f"{table}: line 3: id '2': the gender is missing",
        f"{table}: line 4: id '3': no film of this name",
        f"{tmp_path / 'a' / '4.png'}: another image has the same key",
        f"{table}: line 6: the id is missing",
    ]
    assert found.remark == f"files without a row in {table}: 1 images; other files: 1 .txt"


@pytest.mark.fault("A7")
def test_a_table_of_which_no_row_has_a_film_is_refused_with_the_reason(tmp_path: Path) -> None:
    table = write_ward(tmp_path, "id,sex\n1,F\n2,M\n", "00001.png", "00002.png")
    with pytest.raises(ImageError, match=r"(?s)no image found for 2 of 2 labels.*--id-width 5"):
        found_in(table)
    assert len(found_in(table, LabelColumns(id_width=5)).films) == 2


@pytest.mark.fault("A4")
def test_a_table_without_genders_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="no column holds the gender"):
        found_in(write_ward(tmp_path, "id,boneage\n1,94\n", "1.png"))
