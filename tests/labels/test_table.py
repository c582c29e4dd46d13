"""Test `read_labels` on files: tables are read strictly, and each fault has its own error."""

import contextlib
import hashlib
import os
import pwd
import re
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.images.broken_inputs import write_broken_tables
from wds_bone.errors import ConfigError, LabelError
from wds_bone.labels.read import Label, LabelColumns, read_label_table, read_labels

SMALL = "id,boneage,male\n7,12,1\n8,13,0\n9,14,1\n"
SMALL_LABELS = [Label("7", "M", 12), Label("8", "F", 13), Label("9", "M", 14)]

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


@pytest.mark.fault("A2", "A3", "A4", "A5", "A6")
def test_every_broken_table_gives_its_own_clear_error(tmp_path: Path) -> None:
    patterns = write_broken_tables(tmp_path)
    for name, pattern in patterns.items():
        with pytest.raises(LabelError) as caught:
            read_labels(tmp_path / name)
        assert re.search(pattern, str(caught.value)), f"{pattern}\n{caught.value}"
        assert str(caught.value).startswith(str(tmp_path / name))
    assert len(patterns) >= 30


@pytest.mark.fault("A2", "A4")
@given(contents=st.binary(max_size=200))
def test_any_bytes_give_labels_or_a_label_error(contents: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "labels.csv"
    path.write_bytes(b"id,boneage,male\n" + contents)
    with contextlib.suppress(LabelError):
        assert read_labels(path)


@pytest.mark.fault("A4")
@given(text=st.text(alphabet='id,1F"\n\r ;\ufeff', max_size=60))
def test_any_small_table_gives_labels_or_a_label_error(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "labels.csv"
    path.write_bytes(b"id,age,sex\n" + text.encode())
    with contextlib.suppress(LabelError):
        assert read_labels(path)


@pytest.mark.fault("A1")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("absent.csv", "No such file"),
        ("absent.xlsx", "No such file"),
        (".", "Is a directory"),
        ("x" * 300 + ".csv", "File name too long"),
        ("a\0b.csv", "a NUL character in its name"),
        ("labels.csv/labels.csv", "Not a directory"),
        ("loop.csv", "symbolic links"),
    ],
)
def test_the_error_for_an_unreadable_table_gives_the_reason(name: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").touch()
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    with pytest.raises(LabelError, match=f"the label table cannot be read(?s:.*){reason}"):
        read_labels(tmp_path / name)


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Give up the rights of root, which may read everything."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.fault("A1")
@pytest.mark.parametrize("unreadable", ["labels.csv", "."])
def test_a_table_that_may_not_be_read_or_is_in_such_a_folder_is_refused(unreadable: str, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(SMALL)
    (tmp_path / unreadable).chmod(0)
    with as_nobody(), pytest.raises(LabelError, match=r"the label table cannot be read(?s:.*)Permission denied"):
        read_labels(tmp_path / "labels.csv")
    (tmp_path / unreadable).chmod(0o700)


@pytest.mark.fault("A2")
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_a_byte_order_mark_and_any_line_end_are_accepted(encoding: str, line_end: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(SMALL.replace("\n", line_end).encode(encoding))
    assert read_labels(path) == SMALL_LABELS


@pytest.mark.fault("A2")
@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=20), bad=st.binary(min_size=1))
def test_the_offset_of_the_first_byte_that_is_not_utf8_is_given(
    text: str, bad: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    start = SMALL.encode() + text.encode()
    contents = start + b"\xff" + bad
    path = tmp_path_factory.mktemp("offset") / "labels.csv"
    path.write_bytes(contents.replace(b"\0", b"x"))
    with pytest.raises(LabelError, match=f"line 5: byte offset {len(start)} is not UTF-8"):
        read_labels(path)


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_a_table_is_read_once_from_a_pipe(kind: str, tmp_path: Path) -> None:
    contents = SMALL.encode() if kind == "csv" else write_workbook(tmp_path / "labels.xlsx", ROWS).read_bytes()
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=[contents])
    writer.start()
    table = read_label_table(path)
    writer.join(10)
    assert len(table.labels) == 3
    assert table.sha256 == hashlib.sha256(contents).hexdigest()


def test_semicolons_and_decimal_commas_are_read_if_the_user_says_so(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("id;boneage;male\n7;94,5;WAHR\n8,0;120;FALSCH\n9;1.5;0,0\n")
    labels = [Label("7", "M", 94.5), Label("8", "F", 120), Label("9", "F", 1.5)]
    assert read_labels(path, LabelColumns(delimiter=";")) == labels
    path.write_text(path.read_text().replace(";", "\t"))
    assert read_labels(path, LabelColumns(delimiter="tab")) == labels


def test_a_decimal_comma_in_a_table_with_commas_is_not_a_number(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text('id,boneage,male\n7,"94,5",1\n')
    with pytest.raises(LabelError, match="the age is not a number"):
        read_labels(path)


def test_commas_in_a_table_that_is_said_to_have_semicolons_are_named(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(SMALL)
    with pytest.raises(LabelError, match=r"not separated by ';'(?s:.*)read it without --delimiter"):
        read_labels(tmp_path / "labels.csv", LabelColumns(delimiter=";"))


@pytest.mark.parametrize(
    "rows", [[["Bone ages of 2024"], ROWS[0]], [["Ages", None, "2024"], [], ["made by", "us"], ROWS[0]]]
)
def test_a_title_above_the_header_of_a_workbook_is_named(rows: list[list[Any]], tmp_path: Path) -> None:
    path = write_workbook(tmp_path / "labels.xlsx", rows + ROWS[1:])
    with pytest.raises(LabelError, match=f"row 1: this is not the header, which is row {len(rows)}"):
        read_labels(path)


def test_a_file_beyond_the_limit_is_refused_with_its_size(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    with path.open("wb") as file:
        file.truncate(2**28 + 1)
    with pytest.raises(LabelError, match=r"too large(?s:.*)at most 268,435,456 bytes(?s:.*)268,435,457 bytes"):
        read_labels(path)


@pytest.mark.slow
def test_rows_beyond_the_limit_are_refused_with_the_number(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(SMALL + "\n" * 2**20)
    with pytest.raises(LabelError, match=r"too large(?s:.*)at most 1,048,576 rows(?s:.*)1,048,577 or more"):
        read_labels(path)


def test_reading_takes_memory_for_the_labels_but_not_for_the_table(tmp_path: Path) -> None:
    path, note = tmp_path / "labels.csv", "x" * 1000
    path.write_text("id,boneage,male,note\n" + "".join(f"{n},{n % 200},{n % 2},{note}\n" for n in range(10_000)))
    tracemalloc.start()
    assert len(read_labels(path)) == 10_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 400 * 10_000 < path.stat().st_size / 2


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
