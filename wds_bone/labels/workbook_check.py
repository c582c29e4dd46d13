"""Check an .xlsx workbook before openpyxl reads it, in constant memory.

In: the archive.
Out: nothing, or an error.
Invariant: after the check, everything that openpyxl builds from the workbook fits into a few hundred megabytes, and it
loses no cell: openpyxl silently drops rows and cells that are out of order, and formulas without a computed value.
"""

import re
import zipfile
from collections.abc import Iterator
from functools import reduce
from typing import IO, Literal
from xml.parsers import expat

from wds_bone.errors import LabelError
from wds_bone.labels.limits import MAX_ROWS, MAX_TABLE_BYTES, table_size_error
from wds_bone.storage.location import Location

MAX_COLUMNS = 16_384  # of a worksheet (ECMA-376)
_MAX_STRINGS = 3 * MAX_ROWS
_MAX_ELEMENTS_PER_ROW = 8 * MAX_COLUMNS
_MAX_ELEMENTS = 2**22  # of a sheet; openpyxl reads some ten thousand per second
_MAX_OTHER_ELEMENTS = 200_000  # openpyxl keeps them all, at about a kilobyte each
_MAX_TOKEN_BYTES = 2**20  # expat takes quadratic time for long tags
_CHUNK_BYTES = 2**16
_CELL_NAME = re.compile(r"\A([A-Z]{1,3})[0-9]+\Z")
_STRICT = "http://purl.oclc.org/ooxml/spreadsheetml"  # openpyxl finds no rows in it
_RESAVE = "open it in a spreadsheet program, save it as .xlsx, and use that file"

Kind = Literal["start", "end", "text"]
Event = tuple[Kind, str, dict[str, str]]
"""The kind, the name of the element without its namespace (or the text), and the attributes."""


def check_workbook(path: Location, archive: zipfile.ZipFile) -> None:
    """Refuse a workbook that is too large to read, or whose cells openpyxl would not return.

    Raises:
        LabelError: if it is refused; the message has the numbers, or the name of the cell.
        ExpatError: if the XML is damaged.
    """
    members = [member for member in archive.infolist() if member.filename.lower().endswith((".xml", ".rels"))]
    num_bytes = sum(member.file_size for member in members)
    if num_bytes > MAX_TABLE_BYTES:
        raise table_size_error(path, f"{MAX_TABLE_BYTES:,} bytes after unpacking", f"{num_bytes:,} bytes")
    # The workbook comes first, because it says whether the values of formulas in its sheets are valid.
    is_stale = False
    for member in sorted(members, key=lambda member: member.filename != "xl/workbook.xml"):
        with archive.open(member) as stream:
            is_stale |= _check_member(path, _events(stream, path), is_stale=is_stale)


def _check_member(path: Location, events: Iterator[Event], *, is_stale: bool) -> bool:
    """Check a member, and return whether it says that the values of all formulas are to be computed again."""
    _, root, attributes = next(events)
    if any(value.startswith(_STRICT) for name, value in attributes.items() if name.startswith("xmlns")):
        problem, do = (
            f"{path}: the workbook has the Strict Open XML format",
            "save it in the format Excel Workbook (.xlsx)",
        )
        raise LabelError(problem, expected="an ordinary .xlsx workbook", got=f"a namespace of {_STRICT}", do=do)
    if root == "worksheet":
        _check_sheet(path, events, is_stale=is_stale)
        return False
    noun, most = ("strings", _MAX_STRINGS) if root == "sst" else ("elements outside its cells", _MAX_OTHER_ELEMENTS)
    counted, must_compute = 0, False
    for kind, name, attributes in events:
        counted += kind == "start" and (root != "sst" or name == "si")
        if attributes.get("Type", "").endswith("/worksheet"):
            _check_is_xml(path, attributes.get("Target", ""))
        must_compute |= name == "calcPr" and attributes.get("fullCalcOnLoad") in ("1", "true")
        _check_count(path, counted, most=most, noun=noun)
    return must_compute


def _check_is_xml(path: Location, sheet: str) -> None:
    """Refuse a sheet that this module would not check, because it is not in a member whose name ends in .xml."""
    if not sheet.lower().endswith(".xml"):
        problem = f"{path}: a sheet of the workbook has an unusual name"
        raise LabelError(problem, expected="a name such as worksheets/sheet1.xml", got=repr(sheet[:100]), do=_RESAVE)


def _check_sheet(path: Location, events: Iterator[Event], *, is_stale: bool) -> None:
    row, num_others, num_elements = 0, 0, 0
    for kind, name, attributes in events:
        if kind == "start" and name == "row":
            number = int(attributes.get("r", row + 1))
            if number <= row:
                raise _order_error(path, f"row {number} after row {row}")
            row = number
            _check_count(path, row, most=MAX_ROWS, noun="rows")
            num_elements += _check_row(path, row, events, is_stale=is_stale)
            _check_count(path, num_elements, most=_MAX_ELEMENTS, noun="cells and values in the sheet")
        elif kind == "start":
            num_others += 1
            _check_count(path, num_others, most=_MAX_OTHER_ELEMENTS, noun="elements outside its cells")


def _check_row(path: Location, row: int, events: Iterator[Event], *, is_stale: bool) -> int:
    """Check the cells of a row, consume its events up to its end, and return the number of its elements."""
    column, num_elements = 0, 0
    for kind, name, attributes in events:
        if (kind, name) == ("end", "row"):
            break
        num_elements += kind == "start"
        _check_count(path, num_elements, most=_MAX_ELEMENTS_PER_ROW, noun=f"elements in row {row}")
        if (kind, name) == ("start", "c"):
            following = _column(attributes.get("r"), column + 1)
            if following <= column:
                raise _order_error(path, f"the cell {attributes['r']} after a cell to the right of it")
            column = following
            _check_count(path, column, most=MAX_COLUMNS, noun="columns")
            num_elements += _check_cell(path, f"{_letters(column)}{row}", attributes, events, is_stale=is_stale)
    return num_elements


def _check_cell(
    path: Location, cell: str, attributes: dict[str, str], events: Iterator[Event], *, is_stale: bool
) -> int:
    """Check that a cell with a formula has a value, consume its events, and return the number of its elements."""
    num_elements, has_formula, inside = 0, False, ""
    has_value = attributes.get("t") == "str"  # an empty text is a value, too
    for kind, name, _ in events:
        if (kind, name) == ("end", "c"):
            break
        num_elements += kind == "start"
        _check_count(path, num_elements, most=_MAX_ELEMENTS_PER_ROW, noun=f"elements in the cell {cell}")
        has_formula |= (kind, name) == ("start", "f")
        has_value |= kind == "text" and inside == "v"
        inside = name if kind == "start" else inside if kind == "text" else ""
    if has_formula and (is_stale or not has_value):
        raise LabelError(
            f"{path}: the cell {cell} has a formula that was not computed",
            expected="values, or formulas with their last results",
            got="a formula without a valid result, as programs other than spreadsheets write it",
            do=_RESAVE,
        )
    return num_elements


def _column(name: str | None, following: int) -> int:
    """Return the number of a column, from 1, by the name of a cell such as `C7`; cells without a name are adjacent."""
    if name is None:
        return following
    if (match := _CELL_NAME.match(name)) is None:
        raise ValueError(f"a cell named {name[:20]!r}")
    return reduce(lambda number, letter: 26 * number + ord(letter) - ord("A") + 1, match[1], 0)


def _letters(column: int) -> str:
    letters = ""
    while column:
        column, rest = divmod(column - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


def _check_count(path: Location, counted: int, *, most: int, noun: str) -> None:
    if counted > most:
        raise table_size_error(path, f"{most:,} {noun}", f"{counted:,} or more")


def _order_error(path: Location, got: str) -> LabelError:
    problem = f"{path}: the rows or cells of the workbook are out of order"
    return LabelError(problem, expected="ascending rows and columns", got=got, do=_RESAVE)


def _events(stream: IO[bytes], path: Location) -> Iterator[Event]:
    """Yield the starts, ends and texts of XML, a small part of the file at a time.

    Raises:
        LabelError: if the XML has entities, which could expand to any size, or long tags or texts; no spreadsheet
            program writes them.
    """
    found: list[Event] = []

    def refuse(*_declaration: object, got: str = "a DOCTYPE") -> None:
        raise LabelError(f"{path}: the workbook has unusual XML", expected="plain XML", got=got, do=_RESAVE)

    parser, token_bytes = expat.ParserCreate(), 0
    parser.StartElementHandler = lambda name, attributes: found.append(("start", name.rpartition(":")[2], attributes))
    parser.EndElementHandler = lambda name: found.append(("end", name.rpartition(":")[2], {}))
    parser.CharacterDataHandler = lambda text: found.append(("text", text, {}))
    parser.StartDoctypeDeclHandler = refuse
    while chunk := stream.read(_CHUNK_BYTES):
        parser.Parse(chunk)
        token_bytes = 0 if any(kind != "text" for kind, _, _ in found) else token_bytes + len(chunk)
        if token_bytes > _MAX_TOKEN_BYTES:
            refuse(got=f"a tag or text of more than {_MAX_TOKEN_BYTES:,} bytes")
        yield from found
        found.clear()
    parser.Parse(b"", True)
    yield from found
