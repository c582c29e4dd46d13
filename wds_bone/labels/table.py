"""Read a label table strictly.

In: a CSV file (RFC 4180), or one sheet of an .xlsx workbook.
Out: a `Table`: the header and the rows, each with its location in the file.
Invariant: nothing is repaired; a table that is not UTF-8, or whose rows differ in length from the header, is refused
with the line or byte offset.
"""

import codecs
import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wds_bone.errors import ConfigError, LabelError

_UTF16_OR_32 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
_SAVE_AS_CSV = "save the table as CSV: UTF-8, separated by commas"


@dataclass(frozen=True)
class Row:
    """One row: its location (file and line, for error messages) and the text of its cells."""

    where: str
    cells: list[str]


@dataclass(frozen=True)
class Table:
    """A header and the rows below it, which all have as many cells as the header."""

    header: Row
    rows: list[Row]


def read_table(path: str | Path) -> Table:
    """Return the table in `path` without its empty rows.

    Raises:
        LabelError: if the file cannot be read or is not a table.
        ConfigError: if the file is an .xlsx workbook and openpyxl is not installed.
    """
    path = Path(path)
    readers = {".xlsx": _xlsx_rows, ".xls": _refuse_workbook, ".ods": _refuse_workbook}
    rows = [row for row in readers.get(path.suffix.lower(), _csv_rows)(path) if any(cell.strip() for cell in row.cells)]
    if len(rows) < 2:
        got = f"{len(rows)} row" if rows else "an empty file"
        do = "use a table with labels"
        raise LabelError(f"{path}: no labels", expected="a header and at least one row", got=got, do=do)
    header, *rows = rows
    _check_separator(header)
    for row in rows:
        _check_width(header, row)
    return Table(header, rows)


def _csv_rows(path: Path) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(_read_text(path), newline=""), strict=True, skipinitialspace=True)
    while True:
        where = f"{path}: line {reader.line_num + 1}"
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise _csv_error(where, error) from error
        if cells is None:
            return
        if any("\n" in cell or "\r" in cell for cell in cells):
            raise _csv_error(where, "a quoted cell that continues past the end of the line")
        yield Row(where, cells)


def _read_text(path: Path) -> str:
    contents = _read_bytes(path)
    if contents.startswith(_UTF16_OR_32):
        raise _encoding_error(path, contents, 0, "UTF-16 or UTF-32")
    if b"\0" in contents:
        raise _encoding_error(path, contents, contents.index(b"\0"), "a NUL byte")
    text = contents.removeprefix(codecs.BOM_UTF8)
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        offset = len(contents) - len(text) + error.start
        raise _encoding_error(path, contents, offset, f"byte {contents[offset]:#04x}, as in Latin-1") from error


def _encoding_error(path: Path, contents: bytes, offset: int, got: str) -> LabelError:
    line = contents.count(b"\n", 0, offset) + 1
    problem = f"{path}: line {line}: byte offset {offset} is not UTF-8"
    return LabelError(problem, expected="UTF-8", got=got, do=_SAVE_AS_CSV)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise LabelError(
            f"{path}: the label table cannot be read",
            expected="a readable file",
            got=error.strerror,
            do="use the path of a .csv or .xlsx file",
        ) from error


def _csv_error(where: str, got: object) -> LabelError:
    return LabelError(
        f"{where}: the CSV is not well formed",
        expected='paired quotes, "" for a quote inside a quoted cell, no line breaks in cells, cells below 128 KiB',
        got=got,
        do="fix the quotes, the line break or the long cell on this line",
    )


def _check_separator(header: Row) -> None:
    found = next((separator for separator in ";\t|" if separator in header.cells[0]), None)
    if len(header.cells) == 1 and found:
        raise LabelError(
            f"{header.where}: the cells are not separated by commas",
            expected="',' between the cells",
            got=repr(found),
            do=_SAVE_AS_CSV,
        )


def _check_width(header: Row, row: Row) -> None:
    if len(row.cells) != len(header.cells):
        raise LabelError(
            f"{row.where}: the row and the header have different numbers of cells",
            expected=f"{len(header.cells)} cells: {', '.join(header.cells)}",
            got=f"{len(row.cells)}: {', '.join(row.cells)[:200]}",
            do="add or remove cells; quote a cell that contains a comma",
        )


def _refuse_workbook(path: Path) -> Iterator[Row]:
    raise LabelError(f"{path}: unsupported table format", expected=".csv or .xlsx", got=path.suffix, do=_SAVE_AS_CSV)


def _xlsx_rows(path: Path) -> Iterator[Row]:
    width = 0
    for number, cells in enumerate(_only_sheet(path), start=1):
        texts = ["" if cell is None else str(cell) for cell in cells]
        while texts and not texts[-1]:
            texts.pop()
        width = width or len(texts)
        # Rows of a sheet have no fixed length, so missing cells up to the width of the header count as empty.
        yield Row(f"{path}: row {number}", texts + [""] * (width - len(texts)))


def _only_sheet(path: Path) -> Sequence[Sequence[Any]]:
    """Return the cells of the only sheet that is not empty."""
    try:
        import openpyxl
    except ImportError as error:
        do = "run `pip install openpyxl`, or save the table as CSV"
        raise ConfigError(f"{path}: reading .xlsx requires the package openpyxl", do=do) from error
    contents = io.BytesIO(_read_bytes(path))
    try:
        workbook = openpyxl.load_workbook(contents, read_only=True, data_only=True)
        sheets = {sheet.title: list(sheet.iter_rows(values_only=True)) for sheet in workbook.worksheets}
    except Exception as error:  # openpyxl raises arbitrary exceptions for damaged workbooks
        raise LabelError(
            f"{path}: the workbook cannot be read", expected="an .xlsx file", got=repr(error), do=_SAVE_AS_CSV
        ) from error
    filled = {title: rows for title, rows in sheets.items() if any(cell is not None for row in rows for cell in row)}
    if len(filled) > 1:
        raise LabelError(
            f"{path}: more than one sheet has contents",
            expected="one sheet with the labels",
            got=", ".join(map(repr, filled)),
            do="delete the other sheets, or save the one with the labels as CSV",
        )
    return next(iter(filled.values()), [])
