"""Find the columns of a table by its header, and explain a header that is not understood.

In: a `Table` whose rows have not been read yet.
Out: the roles of its columns.
Invariant: nothing is guessed; a title, a `sep=` line, another separator or a missing header is named and refused.
"""

import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol, TypeVar

from wds_bone.errors import LabelError
from wds_bone.labels.columns import GenderRoles, LabelColumns, Roles
from wds_bone.labels.csv_table import DELIMITERS, SAVE_AS_CSV
from wds_bone.labels.table import Row, Table

_DECIMAL_COMMA = re.compile(r"(?<![^;\t|\s])\d+,\d+(?![^;\t|\s])")

RolesT = TypeVar("RolesT", Roles, GenderRoles, covariant=True)


class FindRoles(Protocol[RolesT]):
    """Finds the columns that are needed: `find_roles` or `find_gender_roles`."""

    def __call__(self, names: Sequence[str], columns: LabelColumns, *, where: str) -> RolesT:
        """Return the columns, or raise `LabelError`."""


def find_table_roles(table: Table, columns: LabelColumns, *, find: FindRoles[RolesT]) -> RolesT:
    """Return the columns of `table`.

    Args:
        table: the table.
        columns: what the user specified.
        find: finds the columns that are needed among the names in a header.

    Raises:
        LabelError: if a role has no column or several; if the header shows why, the message says it.
    """
    try:
        return find(table.header.cells, columns, where=table.header.where)
    except LabelError as error:
        raise _explain(error, table, columns, find) from error


def _explain(error: LabelError, table: Table, columns: LabelColumns, find: FindRoles[RolesT]) -> LabelError:
    """Return the error for a header that `error` was raised for."""
    header = table.header
    if header.cells[0].strip().casefold().startswith("sep="):
        return _sep_line_error(header, DELIMITERS[columns.delimiter])
    # A title above the header may be one cell, and the separators are then below it.
    rows = [header] if len(header.cells) > 1 else [header, *table.first_rows]
    if found := next(filter(None, (_find_delimiter(row, columns, find) for row in rows)), None):
        return _delimiter_error(table, found, columns)
    if below := _find_header_below(table, columns, find):
        return LabelError(
            f"{header.where}: this is not the header, which is {below.unit} {below.number}",
            expected="the names of the columns first",
            got=", ".join(cell for cell in header.cells if cell.strip())[:200],
            do=f"delete everything above {below.unit} {below.number}",
        )
    if any(_is_number(cell) for cell in header.cells):
        return LabelError(
            f"{header.where}: the table has no header",
            expected=error.expected,
            got=error.got,
            do="add a first line with the names of the columns, such as id,boneage,male",
        )
    return error


def _find_delimiter(row: Row, columns: LabelColumns, find: FindRoles[RolesT]) -> str | None:
    """Return the name of the separator that turns a row of a CSV into a header, or into three cells or more."""
    text = DELIMITERS[columns.delimiter].join(row.cells)
    counts = {name: text.count(mark) for name, mark in DELIMITERS.items() if name != columns.delimiter}
    best = max(counts, key=lambda name: counts[name])
    is_better = counts[best] >= max(2, len(row.cells)) or _is_header(text.split(DELIMITERS[best]), columns, find)
    return best if row.unit == "line" and is_better else None


def _delimiter_error(table: Table, found: str, columns: LabelColumns) -> LabelError:
    used = DELIMITERS[columns.delimiter]
    texts = [used.join(row.cells) for row in table.first_rows]
    number = next((match[0] for text in texts if (match := _DECIMAL_COMMA.search(text))), None)
    with_commas = f", and decimal commas such as {number!r}" if number and used == "," else ""
    option = "without --delimiter" if found == "," else f"with --delimiter {shlex.quote(found)}"
    return LabelError(
        f"{table.header.where}: the cells are not separated by {'commas' if used == ',' else repr(used)}",
        expected=f"{used!r} between the cells",
        got=f"{DELIMITERS[found]!r}{with_commas}",
        do=f"read it {option}, or {SAVE_AS_CSV}{', with decimal points' if with_commas else ''}",
    )


def _sep_line_error(header: Row, used: str) -> LabelError:
    line = used.join(header.cells).strip()
    name = next((name for name, mark in DELIMITERS.items() if mark == line[4:5] != used), None)
    return LabelError(
        f"{header.where}: this is a sep= line, which only spreadsheet programs understand",
        expected="the names of the columns",
        got=repr(line),
        do=f"delete this line{f', and pass --delimiter {shlex.quote(name)}' if name else ''}",
    )


def _find_header_below(table: Table, columns: LabelColumns, find: FindRoles[RolesT]) -> Row | None:
    return next((row for row in table.first_rows if _is_header(row.cells, columns, find)), None)


def _is_header(cells: Sequence[str], columns: LabelColumns, find: FindRoles[RolesT]) -> bool:
    with suppress(LabelError):
        find(cells, columns, where="")
        return True
    return False


def _is_number(text: str) -> bool:
    return text.strip().replace(".", "", 1).isdecimal()
