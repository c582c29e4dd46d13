"""Read a label table strictly, row by row.

In: a CSV file (RFC 4180), or one sheet of an .xlsx workbook; a file or a pipe, which is read once.
Out: a `Table`: the header and the rows, each with its location in the file.
Invariant: nothing is repaired; a table that is not UTF-8, or whose rows differ in length from the header, is refused
with the line or byte offset. Memory does not grow with the table, except for the contents of a workbook.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, Literal

from wds_bone.errors import LabelError
from wds_bone.labels.csv_table import MAX_LINE_BYTES, csv_rows
from wds_bone.labels.formats import OLE_START, detect_format, refuse_ole
from wds_bone.labels.limits import MAX_ROWS, MAX_TABLE_BYTES, MAX_WORKBOOK_BYTES, table_size_error
from wds_bone.labels.workbook import workbook_rows
from wds_bone.storage.location import Location, file_bytes, open_file

Unit = Literal["line", "row"]
_NUM_FIRST_ROWS = 10


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the text of its cells, and its location; a CSV has lines, a workbook has rows."""

    path: Location
    unit: Unit
    number: int
    cells: list[str]

    @property
    def where(self) -> str:
        """The location for error messages, such as `labels.csv: line 7`."""
        return f"{self.path}: {self.unit} {self.number}"


@dataclass(frozen=True)
class Table:
    """A header and the rows below it.

    Attributes:
        path: the file.
        header: the first row that is not empty.
        first_rows: some rows below the header, as they are, to explain a header that is not understood.
        rows: all rows below the header that are not empty, once; they have as many cells as the header.
        digest: the sha256 of the file when all rows were read.
    """

    path: Location
    header: Row
    first_rows: tuple[Row, ...]
    rows: Iterator[Row]
    digest: Any


@contextmanager
def open_table(path: str | Location, *, delimiter: str = ",") -> Iterator[Table]:
    """Open the table in `path`, which may be a pipe; its rows are read as they are needed.

    Args:
        path: a .csv or .xlsx file.
        delimiter: the character between the cells of a CSV.

    Raises:
        LabelError: if the file cannot be read, is not a table, or is too large.
        ConfigError: if the file is an .xlsx workbook and openpyxl is not installed.
    """
    path, digest = Path(path) if isinstance(path, str) else path, hashlib.sha256()
    try:
        with _open(path) as file:
            rows = (row for row in _read_rows(file, path, digest, delimiter) if any(map(str.strip, row.cells)))
            first = tuple(islice(rows, 1 + _NUM_FIRST_ROWS))
            if len(first) < 2:
                raise _empty_error(path, len(first))
            checked = (_fit(row, first[0]) for row in chain(first[1:], rows))
            yield Table(path, first[0], first[1:], checked, digest)
    except OSError as error:
        raise _read_error(path, error.strerror) from error


def _open(path: Location) -> IO[bytes]:
    if isinstance(path, Path):
        return _open_path(path)
    if (num_bytes := file_bytes(path)) > MAX_TABLE_BYTES:
        raise _file_size_error(path, num_bytes)
    return open_file(path)


def _open_path(path: Path) -> IO[bytes]:
    if "\0" in str(path):
        raise _read_error(path, "a NUL character in its name")
    file = path.open("rb")
    status = os.fstat(file.fileno())
    if stat.S_ISREG(status.st_mode) and status.st_size > MAX_TABLE_BYTES:
        file.close()
        raise _file_size_error(path, status.st_size)
    return file


def _file_size_error(path: Location, num_bytes: int) -> LabelError:
    return table_size_error(path, f"{MAX_TABLE_BYTES:,} bytes", f"{num_bytes:,} bytes")


def _read_rows(file: IO[bytes], path: Location, digest: Any, delimiter: str) -> Iterator[Row]:
    """Yield all rows, empty ones as well, up to the limit."""
    first = file.readline(MAX_LINE_BYTES + 1)
    if first.startswith(OLE_START):
        refuse_ole(path, first + file.read(MAX_WORKBOOK_BYTES))
    if detect_format(path, first) == "xlsx":
        yield from _numbered(path, "row", workbook_rows(_read_workbook(file, path, digest, first), path))
    else:
        lines = _read_lines(file, path, digest, first)
        yield from _numbered(path, "line", csv_rows(lines, path, delimiter=delimiter))


def _numbered(path: Location, unit: Unit, rows: Iterator[tuple[int, list[str]]]) -> Iterator[Row]:
    for number, cells in rows:
        if number > MAX_ROWS:
            raise table_size_error(path, f"{MAX_ROWS:,} rows, with the header and empty ones", f"{number:,} or more")
        yield Row(path, unit, number, cells)


def _read_workbook(file: IO[bytes], path: Location, digest: Any, first: bytes) -> bytes:
    contents = first + file.read(MAX_WORKBOOK_BYTES)
    if len(contents) > MAX_WORKBOOK_BYTES:
        raise table_size_error(path, f"{MAX_WORKBOOK_BYTES:,} bytes of a workbook", f"{len(contents):,} bytes or more")
    digest.update(contents)
    return contents


def _read_lines(file: IO[bytes], path: Location, digest: Any, line: bytes) -> Iterator[bytes]:
    num_bytes = 0
    while line:
        num_bytes += len(line)
        if num_bytes > MAX_TABLE_BYTES:
            raise table_size_error(path, f"{MAX_TABLE_BYTES:,} bytes", f"{num_bytes:,} bytes or more")
        digest.update(line)
        yield line
        line = file.readline(MAX_LINE_BYTES + 1)


def _fit(row: Row, header: Row) -> Row:
    """Return `row` with as many cells as the header: missing cells of a workbook are empty, those of a CSV an error."""
    missing = len(header.cells) - len(row.cells)
    if missing > 0 and row.unit == "row":
        return replace(row, cells=row.cells + [""] * missing)
    if missing:
        raise LabelError(
            f"{row.where}: the row and the header have different numbers of cells",
            expected=f"{len(header.cells)} cells: {', '.join(header.cells)[:200]}",
            got=f"{len(row.cells)}: {', '.join(row.cells)[:200]}",
            do="add or remove cells; quote a cell that contains a comma",
        )
    return row


def _empty_error(path: Location, num_rows: int) -> LabelError:
    got = f"{num_rows} row" if num_rows else "an empty file"
    return LabelError(
        f"{path}: no labels", expected="a header and at least one row", got=got, do="use a table with labels"
    )


def _read_error(path: Location, reason: str | None) -> LabelError:
    return LabelError(
        f"{path}: the label table cannot be read",
        expected="a readable file",
        got=reason,
        do="use the path of a .csv or .xlsx file",
    )
