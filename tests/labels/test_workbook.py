"""Test that workbooks are read as they are, and that no workbook takes much memory or loses a cell."""

import contextlib
import re
import time
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.labels.workbooks import HEADER, SHEET, edit_workbook, workbook_bytes, write_sheet
from wds_bone.errors import LabelError
from wds_bone.labels.read import Label, read_labels

ROWS = [HEADER, *((number, 6 + 9 * number, number % 2 == 0) for number in range(24))]
LABELS = [Label(str(number), "M" if number % 2 == 0 else "F", 6 + 9 * number) for number in range(24)]
FORMULA = '<c r="C2"><f>A2*2</f>{}</c>'


def claim(extent: str):
    return lambda xml: re.sub(rb"<dimension[^>]*>", b'<dimension ref="%s"/>' % extent.encode(), xml)


@settings(max_examples=20)
@given(
    rows=st.tuples(st.integers(1, 30), st.integers(0, 30)),
    columns=st.tuples(st.sampled_from("ABC"), st.sampled_from("ABCD")),
)
def test_all_labels_are_read_whatever_extent_a_sheet_claims(rows, columns, tmp_path_factory: pytest.TempPathFactory):
    extent = f"{columns[0]}{rows[0]}:{columns[1]}{rows[0] + rows[1]}"
    path = edit_workbook(tmp_path_factory.mktemp("claims") / "labels.xlsx", workbook_bytes(ROWS), claim(extent))
    assert read_labels(path) == LABELS


def test_a_workbook_is_read_whatever_its_name_if_the_name_does_not_contradict_it(tmp_path: Path):
    for name in ("labels.xlsm", "labels", "LABELS.XLSX"):
        (tmp_path / name).write_bytes(workbook_bytes(ROWS))
        assert read_labels(tmp_path / name) == LABELS


def test_rows_and_cells_that_are_missing_from_a_sheet_are_empty(tmp_path: Path):
    cell = '<c r="{}" t="inlineStr"><is><t>{}</t></is></c>'
    rows = {
        2: [("B2", "id"), ("D2", "boneage"), ("F2", "male")],
        7: [("B7", "x"), ("D7", "12"), ("F7", "1")],
        900: [("B900", "y"), ("D900", "13"), ("F900", "0")],
    }
    xml = "".join(f'<row r="{n}">{"".join(cell.format(*pair) for pair in row)}</row>' for n, row in rows.items())
    path = write_sheet(tmp_path / "labels.xlsx", f"<sheetData>{xml}</sheetData>")
    assert read_labels(path) == [Label("x", "M", 12), Label("y", "F", 13)]


@pytest.mark.parametrize("value", ["", "<v></v>", "<v/>"])
def test_a_formula_without_a_computed_value_is_refused_with_the_name_of_its_cell(value: str, tmp_path: Path):
    def edit(xml: bytes) -> bytes:
        return re.sub(rb'<c r="C2".*?</c>', FORMULA.format(value).encode(), xml)

    path = edit_workbook(tmp_path / "labels.xlsx", workbook_bytes(ROWS), edit)
    with pytest.raises(LabelError, match=r"the cell C2 has a formula that was not computed(?s:.*)save it as \.xlsx"):
        read_labels(path)


@pytest.mark.parametrize(
    ("name", "problem"),
    [("sheet1.bin", "a sheet of the workbook has an unusual name"), ("sheet1.XML", "out of order")],
)
def test_a_sheet_is_checked_whatever_its_member_is_called(name: str, problem: str, tmp_path: Path):
    path = edit_workbook(
        tmp_path / "old.xlsx", workbook_bytes(ROWS), lambda xml: xml.replace(b'<row r="3"', b'<row r="13"')
    )
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "labels.xlsx", "w") as new:
        for member in old.namelist():
            contents = old.read(member).replace(b"sheet1.xml", name.encode())
            new.writestr(member.replace("sheet1.xml", name), contents)
    with pytest.raises(LabelError, match=problem):
        read_labels(tmp_path / "labels.xlsx")


def test_a_formula_with_a_computed_value_is_read(tmp_path: Path):
    contents = workbook_bytes([HEADER, ("1", 12, "=1")])
    path = edit_workbook(
        tmp_path / "new.xlsx", contents, lambda xml: xml.replace(b"<v></v>", b"<v>1</v>").replace(b"<v />", b"<v>1</v>")
    )
    with pytest.raises(LabelError, match="the cell C2 has a formula that was not computed"):
        read_labels(path)  # the workbook says that its values are to be computed again
    computed = path.with_name("computed.xlsx")
    edit_workbook(
        computed, path.read_bytes(), lambda xml: xml.replace(b'fullCalcOnLoad="1"', b""), member="xl/workbook.xml"
    )
    assert read_labels(computed) == [Label("1", "M", 12)]


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        ('<row r="3"/><row r="2"/>', "out of order.*row 2 after row 3"),
        ('<row r="2"/><row r="2"/>', "out of order.*row 2 after row 2"),
        ('<row r="1"><c r="C1"/><c r="B1"/></row>', "out of order.*the cell B1"),
        ('<row r="1048577"/>', "too large.*at most 1,048,576 rows"),
        ('<row r="1"><c r="XFE1"/></row>', "too large.*at most 16,384 columns"),
        (f'<row r="1">{"<c/>" * 20_000}</row>', "too large.*16,384 columns"),
        (f'<row r="1"><c r="A1">{"<x/>" * 135_000}</c></row>', "too large.*elements in the cell A1"),
        (f'<row r="1">{"<x/>" * 135_000}</row>', "too large.*elements in row 1"),
        ("<x/>" * 201_000, "too large.*elements outside its cells"),
        (f'<row r="{"7" * 2_000_000}"/>', "unusual XML.*a tag or text of more than 1,048,576 bytes"),
        (f'<row r="1"><c r="A1" t="str"><v>{"7" * 2_000_000}</v></c></row>', "unusual XML.*a tag or text of more than"),
        ('<row r="1"><c r="A0x"/></row>', "cannot be read.*a cell named 'A0x'"),
        ("<row", "cannot be read"),
    ],
)
def test_a_sheet_that_cannot_be_read_completely_is_refused(xml: str, message: str, tmp_path: Path):
    path, start = write_sheet(tmp_path / "labels.xlsx", f"<sheetData>{xml}</sheetData>"), time.monotonic()
    with pytest.raises(LabelError, match=f"(?s){message}"):
        read_labels(path)
    assert time.monotonic() - start < 30


def test_entities_in_the_xml_of_a_workbook_are_refused(tmp_path: Path):
    entity = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">]>'
    path = edit_workbook(tmp_path / "labels.xlsx", workbook_bytes(ROWS), lambda xml: entity + xml)
    with pytest.raises(LabelError, match=r"unusual XML(?s:.*)a DOCTYPE"):
        read_labels(path)


def test_a_workbook_that_unpacks_to_more_than_the_limit_is_refused_without_the_memory(tmp_path: Path):
    path = tmp_path / "labels.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(SHEET, b"<worksheet/>")
        with archive.open("xl/sharedStrings.xml", "w", force_zip64=True) as file:
            for _ in range(257):
                file.write(bytes(2**20))
    tracemalloc.start()
    with pytest.raises(LabelError, match=r"too large(?s:.*)268,435,456 bytes after unpacking(?s:.*)269,4\d\d,\d\d\d"):
        read_labels(path)
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("member", "name"),
    [
        ("xl/workbook.bin", r"a binary workbook \(\.xlsb\)"),
        ("content.xml", r"an OpenDocument spreadsheet \(\.ods\)"),
        ("word/document.xml", "a Word document"),
        ("labels.csv", "a zip archive without a workbook"),
    ],
)
def test_an_archive_that_is_not_a_workbook_is_named(member: str, name: str, tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "labels.xlsx", "w") as archive:
        archive.writestr(member, b"7")
    with pytest.raises(LabelError, match=f"unsupported table format(?s:.*)got:      {name}"):
        read_labels(tmp_path / "labels.xlsx")


@settings(max_examples=15)
@given(position=st.floats(0, 1), bit=st.integers(0, 7))
def test_a_flipped_bit_gives_labels_or_a_label_error(position, bit, tmp_path_factory: pytest.TempPathFactory):
    contents = bytearray(workbook_bytes(ROWS))
    contents[int(position * (len(contents) - 1))] ^= 1 << bit
    path = tmp_path_factory.mktemp("flips") / "labels.xlsx"
    path.write_bytes(contents)
    with contextlib.suppress(LabelError):
        assert read_labels(path) == LABELS


def test_a_strict_workbook_is_named(tmp_path: Path):
    def edit(xml: bytes) -> bytes:
        return xml.replace(
            b"http://schemas.openxmlformats.org/spreadsheetml/2006", b"http://purl.oclc.org/ooxml/spreadsheetml"
        )

    path = edit_workbook(tmp_path / "labels.xlsx", workbook_bytes(ROWS), edit)
    with pytest.raises(LabelError, match="Strict Open XML"):
        read_labels(path)
