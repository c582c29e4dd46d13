"""Test `read_gender_table`: tables of genders with or without ages, in every dialect of the label tables."""

from pathlib import Path

import pytest

from tests.labels.test_read import DIALECTS, LABELS, write_table
from tests.labels.workbooks import workbook_bytes
from wds_bone.errors import LabelError
from wds_bone.labels.gender_table import read_gender_table
from wds_bone.labels.read import LabelColumns

GENDERS = [(label.key, label.gender) for label in LABELS]


def genders_of(path: Path, columns: LabelColumns | None = None) -> list[tuple[str, object]]:
    return [(row.id, row.gender) for row in read_gender_table(path, columns or LabelColumns())]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_of_label_tables_gives_its_genders(dialect: str, tmp_path: Path) -> None:
    assert genders_of(write_table(tmp_path, DIALECTS[dialect])) == GENDERS


@pytest.mark.parametrize(
    "table",
    [
        "file,gender\n1377.png,F\n1402.dcm,female\n1450.jpeg,m\n",
        "sex;patient\ngirl;1377\nGIRL;1402\nboy;1450\n",
        "id,male,age\n1377,0,old\n1402,0,\n1450,1,999\n",
        "id,male,age,bone age\n1377,0,1,2\n1402,0,1,2\n1450,1,1,2\n",
    ],
)
def test_ages_may_be_absent_wrong_or_ambiguous(table: str, tmp_path: Path) -> None:
    columns = LabelColumns(delimiter=";" if ";" in table else ",")
    assert genders_of(write_table(tmp_path, table), columns) == GENDERS


def test_a_workbook_without_ages_is_read(tmp_path: Path) -> None:
    rows = [["id", "sex"], *([int(key), gender] for key, gender in GENDERS)]
    (tmp_path / "ward.xlsx").write_bytes(workbook_bytes(rows))
    assert genders_of(tmp_path / "ward.xlsx") == GENDERS


def test_ids_that_are_no_keys_are_kept_as_they_are(tmp_path: Path) -> None:
    table = write_table(tmp_path, "file,gender\nMüller 3.png,F\nward/b (1).dcm,M\n")
    assert genders_of(table) == [("Müller 3", "F"), ("ward/b (1)", "M")]


def test_the_columns_and_words_can_be_named(tmp_path: Path) -> None:
    table = write_table(tmp_path, "film,s\n7,H\n8,M\n")
    columns = LabelColumns(id_column="film", gender_column="s", gender_words=("H=M", "M=F"), id_width=3)
    assert genders_of(table, columns) == [("007", "M"), ("008", "F")]


@pytest.mark.fault("A5")
def test_a_row_without_id_or_gender_has_an_error_and_the_others_are_read(tmp_path: Path) -> None:
    table = write_table(tmp_path, "id,gender\n1,F\n2,?\n,M\n3,M\n,F\n4,\n")
    rows = read_gender_table(table)
    assert [(row.id, row.gender) for row in rows if isinstance(row.gender, str)] == [("1", "F"), ("3", "M")]
    problems = [row.gender.problem for row in rows if isinstance(row.gender, LabelError)]
    assert problems == [
        f"{table}: line 3: id '2': the gender is not recognized",
        f"{table}: line 4: the id is missing",
        f"{table}: line 6: the id is missing",
        f"{table}: line 7: id '4': the gender is missing",
    ]


@pytest.mark.fault("A4", "A5")
@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("id,boneage\n1,94\n", "no column holds the gender"),
        ("gender\nF\n", "no column holds the id"),
        ("id,gender\n1,F\n1.png,M\n", "line 3: the id '1' occurs twice in the table"),
        ("id,gender\n1,H\n2,M\n3,H\n", "gender words that are not known"),
        ("id,gender\n1,1\n2,0\n", "does not say which gender 1 or true means"),
        ("id;gender\n1;F\n", "the cells are not separated by commas"),
        ("Ward 3,\nid,gender\n1,F\n", "this is not the header, which is line 2"),
    ],
)
def test_a_table_that_does_not_say_the_genders_is_refused(table: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=problem):
        read_gender_table(write_table(tmp_path, table))
