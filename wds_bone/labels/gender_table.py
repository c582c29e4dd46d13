"""Read the genders of children from a table that may have no ages.

In: a CSV file or .xlsx workbook in any dialect of the label tables; a column of ages is not read.
Out: the id and gender of each row, in the order of the table, or the error of a row.
Invariant: a gender is read as written or refused with its location, never guessed; a table without genders is refused.
"""

from dataclasses import dataclass
from pathlib import Path

from wds_bone.errors import LabelError
from wds_bone.labels.columns import BY_NAME, LabelColumns, find_gender_roles
from wds_bone.labels.csv_table import DELIMITERS
from wds_bone.labels.genders import Vocabulary, WordCounts, check_vocabulary, count_word, find_vocabulary, parse_gender
from wds_bone.labels.header import find_table_roles
from wds_bone.labels.rows import identified_rows
from wds_bone.labels.table import open_table
from wds_bone.labels.values import Gender


@dataclass(frozen=True, slots=True)
class GenderRow:
    """The row of a child: its id, which need not be a key, its gender, or why there is none, and its location."""

    id: str
    gender: Gender | LabelError
    where: str


def read_gender_table(path: str | Path, columns: LabelColumns = BY_NAME) -> list[GenderRow]:
    """Return the rows of a table, in its order.

    Args:
        path: a .csv or .xlsx file, or a pipe with the contents of one, with the limits of `read_label_table`.
        columns: what the columns mean, if their names do not say so; what it says about ages and keys is not used.

    Raises:
        LabelError: if the table cannot be read or is too large, has no column of ids or genders, an id occurs twice,
            or the words of the gender column belong to another vocabulary than the known one.
        ConfigError: if the file is an .xlsx workbook and openpyxl is not installed.
    """
    words: WordCounts = {}
    with open_table(path, delimiter=DELIMITERS[columns.delimiter]) as table:
        roles = find_table_roles(table, columns, find=find_gender_roles)
        vocabulary = find_vocabulary(roles.flag, columns.gender_words)
        rows = []
        for identity, row in identified_rows(table, roles.id, columns):
            count_word(words, text := row.cells[roles.gender], row.where)
            rows.append(_read_row(identity, text, vocabulary, row.where))
        check_vocabulary(words, vocabulary, column=table.header.cells[roles.gender].strip())
    return rows


def _read_row(identity: str, gender: str, vocabulary: Vocabulary, where: str) -> GenderRow:
    named = f"{where}: id {identity!r}"
    try:
        if not identity:
            do = "fill in the id, or delete the row"
            raise LabelError(f"{where}: the id is missing", expected="the name of a film", got="an empty cell", do=do)
        return GenderRow(identity, parse_gender(gender, vocabulary, where=named), named)
    except LabelError as error:
        return GenderRow(identity, error, named)
