"""Read the ids of the rows of a label table.

In: a `Table`, and the column of its ids.
Out: each row with its id, in order.
Invariant: no id occurs twice.
"""

from collections.abc import Iterator
from dataclasses import replace

from wds_bone.errors import LabelError
from wds_bone.labels.columns import LabelColumns
from wds_bone.labels.keys import parse_id
from wds_bone.labels.table import Row, Table


def identified_rows(table: Table, id_column: int, columns: LabelColumns) -> Iterator[tuple[str, Row]]:
    """Yield the id of each row, "" if it has none, and the row.

    Raises:
        LabelError: if an id occurs twice.
    """
    numbers: dict[str, int] = {}
    with_comma = columns.delimiter != ","
    for row in table.rows:
        identity = parse_id(row.cells[id_column], width=columns.id_width, decimal_comma=with_comma)
        if identity and numbers.setdefault(identity, row.number) != row.number:
            raise _twice_error(row, identity, replace(row, number=numbers[identity]))
        yield identity, row


def _twice_error(row: Row, identity: str, other: Row) -> LabelError:
    return LabelError(
        f"{row.where}: the id {identity!r} occurs twice in the table",
        expected="each id once, ignoring the image suffix",
        got=f"{identity!r} here and at {other.where}",
        do="remove one of the two rows",
    )
