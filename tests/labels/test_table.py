"""Test `read_labels` on files: tables are read strictly, and each fault has its own error."""

import contextlib
import re
import sys
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.images.broken_inputs import write_broken_tables
from wds_bone.errors import ConfigError, LabelError
from wds_bone.labels.read import Label, read_labels

ROWS: list[list[Any]] = [
    ["Case ID", "Sex", "Ground truth bone age (months)"],
    [4360, "M", 168.93],
    [4361.0, "F", 169],
    ["4362.png", "female", 5.5],
]


def write_workbook(path: Path, *sheets: list[list[Any]]) -> Path:
    workbook = openpyxl.Workbook()
    for number, rows in enumerate(sheets):
        sheet = workbook.active if number == 0 else workbook.create_sheet()
        for row in rows:
            sheet.append(row)
    workbook.save(path)
    return path


def test_every_broken_table_gives_its_own_clear_error(tmp_path: Path) -> None:
    patterns = write_broken_tables(tmp_path)
    for name, pattern in patterns.items():
        with pytest.raises(LabelError) as caught:
            read_labels(tmp_path / name)
        assert re.search(pattern, str(caught.value)), f"{pattern}\n{caught.value}"
        assert str(caught.value).startswith(str(tmp_path / name))
    assert len(patterns) >= 30


@given(contents=st.binary(max_size=200))
def test_any_bytes_give_labels_or_a_label_error(contents: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "labels.csv"
    path.write_bytes(b"id,boneage,male\n" + contents)
    with contextlib.suppress(LabelError):
        assert read_labels(path)


@given(text=st.text(alphabet='id,1F"\n\r ;\ufeff', max_size=60))
def test_any_small_table_gives_labels_or_a_label_error(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "labels.csv"
    path.write_bytes(b"id,age,sex\n" + text.encode())
    with contextlib.suppress(LabelError):
        assert read_labels(path)


@pytest.mark.parametrize("name", ["absent.csv", "absent.xlsx", "."])
def test_the_error_for_an_unreadable_table_gives_the_reason(name: str, tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"(?s)the label table cannot be read.*(No such file|Is a directory)"):
        read_labels(tmp_path / name)


def test_the_rsna_test_labels_are_read_from_a_workbook(tmp_path: Path) -> None:
    path = write_workbook(tmp_path / "Bone age ground truth.xlsx", ROWS, [])
    assert read_labels(path) == [Label("4360", "M", 168.93), Label("4361", "F", 169.0), Label("4362", "F", 5.5)]


def test_numbers_and_booleans_in_a_workbook_are_read(tmp_path: Path) -> None:
    path = write_workbook(
        tmp_path / "labels.xlsx", [[None, "id", "boneage", "male"], [0, 7, 12, True], [], [1, 8, 13, False]]
    )
    assert read_labels(path) == [Label("7", "M", 12.0), Label("8", "F", 13.0)]


@pytest.mark.parametrize(
    ("sheets", "message"),
    [
        ([ROWS, ROWS], "more than one sheet has contents.*'Sheet', 'Sheet1'"),
        ([[]], "no labels.*an empty file"),
        ([[*ROWS, [4361, "F", 170]]], "row 5: the id '4361' occurs twice in the table.*row 3"),
        ([[*ROWS, [4363, "F", None]]], "row 5: id '4363': the age is not a number"),
        (
            [[*ROWS, [4363, "F", 12, "more"]]],
            "row 5: the row and the header have different numbers of cells.*3 cells.*4: 4363, F, 12, more",
        ),
    ],
)
def test_a_bad_workbook_is_refused(sheets: list[list[list[Any]]], message: str, tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=f"(?s){message}"):
        read_labels(write_workbook(tmp_path / "labels.xlsx", *sheets))


def test_the_error_for_a_missing_openpyxl_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_workbook(tmp_path / "labels.xlsx", ROWS)
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(ConfigError, match=r"pip install openpyxl"):
        read_labels(path)
