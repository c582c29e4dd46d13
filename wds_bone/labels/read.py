"""Label table -> `Label(key, gender, age_months)`, the first stage of the line.

In: a CSV or .xlsx in any spelling of the RSNA tables, or the JSON of one sample. Out: labels in the table's order.
Invariant: a label is read as it is written or refused with file, line, expected against got; gender is never guessed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from wds_bone.errors import LabelError
from wds_bone.labels.columns import BY_NAME, LabelColumns, Roles, find_roles
from wds_bone.labels.table import Row, Table, read_table
from wds_bone.labels.values import KEY_PATTERN, Gender, is_flag_value, parse_age_months, parse_gender, parse_key

__all__ = [
    "KEY_PATTERN",
    "Gender",
    "Label",
    "LabelColumns",
    "Rejected",
    "label_from_mapping",
    "read_labels",
    "refuse_years",
    "states_unit",
]

# A table counts as written in years when it has this many labels and so few of them are older than this many months.
_YEARS_MIN_LABELS = 10
_YEARS_MAX_AGE = 20
_YEARS_MAX_OLDER = 0.05
_STATE_UNIT = "say which with --age-unit years or --age-unit months"
_NAME_UNIT = "write the labels again, with the ages in months under the name age_months"


@dataclass(frozen=True)
class Label:
    """What is known of one sample."""

    key: str
    gender: Gender
    age_months: float


@dataclass(frozen=True)
class Rejected:
    """One bad sample that was left out: its key, the cause to count it under, and the problem in words."""

    key: str
    cause: str
    problem: str


def read_labels(
    path: str | Path, columns: LabelColumns = BY_NAME, *, rejected: list[Rejected] | None = None
) -> list[Label]:
    """Return the labels of a table in its order.

    Args:
        path: a .csv (UTF-8, commas) or .xlsx file with a header.
        columns: what its columns mean, where their names do not say it.
        rejected: a list takes the rows whose age or gender is bad; None makes the first of them an error.

    Raises:
        LabelError: the table cannot be read, or a row cannot be understood.
        ConfigError: an .xlsx without the package that reads it.
    """
    table = read_table(path)
    roles = _table_roles(table, columns)
    _check_gender_is_stated(table, roles)
    keys = _unique_keys(table, roles)
    found = (_read_row(key, row, roles, rejected) for key, row in zip(keys, table.rows, strict=True))
    labels = [label for label in found if label is not None]
    if not roles.unit_is_stated:
        where = f"{table.header.where}: the column {table.header.cells[roles.age].strip()!r}"
        refuse_years([label.age_months for label in labels], where, do=_STATE_UNIT)
    return labels


def label_from_mapping(key: str, mapping: Mapping[str, object]) -> Label:
    """Return the label of sample `key` from the JSON beside its image, in our spelling or one of the label tables.

    Args:
        key: of the sample; not checked here.
        mapping: names to strings, numbers or booleans; names without a role are ignored.

    Raises:
        LabelError: no age or no gender, two of one of them, or a value that is not one.
    """
    where = f"sample {key!r}"
    names = tuple(mapping)
    roles = _mapping_roles(names, where)
    gender, age = (_value_text(mapping[names[i]]) for i in (roles.gender, roles.age))
    return Label(
        key,
        parse_gender(gender, flag=roles.flag, where=where),
        parse_age_months(age, unit=roles.age_unit, where=where),
    )


def states_unit(mapping: Mapping[str, object]) -> bool:
    """Return whether the names in the JSON of a sample say in which unit its age is.

    Raises:
        LabelError: as `label_from_mapping`.
    """
    return "age_months" in mapping or _mapping_roles(tuple(mapping), "the label").unit_is_stated


def refuse_years(ages_months: Sequence[float], where: str, *, do: str = _NAME_UNIT) -> None:
    """Refuse at least 10 ages of which all but 5 % are 20 months or younger: such ages are written in years.

    Args:
        ages_months: of labels that do not state their unit.
        where: table and column, or folder, for the message.
        do: what mends it.

    Raises:
        LabelError: as said.
    """
    older = sum(age > _YEARS_MAX_AGE for age in ages_months)
    if len(ages_months) < _YEARS_MIN_LABELS or older > _YEARS_MAX_OLDER * len(ages_months):
        return
    extremes, num_young = f"{min(ages_months):g} to {max(ages_months):g}", len(ages_months) - older
    raise LabelError(
        f"{where}: the ages look like years",
        expected="ages in months",
        got=f"{extremes}, {num_young} of {len(ages_months)} not above {_YEARS_MAX_AGE}",
        do=do,
    )


def _mapping_roles(names: tuple[str, ...], where: str) -> Roles:
    try:
        return _cached_roles(names)
    except LabelError as error:
        do = 'write the label as {"gender": "F", "age_months": 94}'
        raise LabelError(f"{where}: {error.problem}", expected=error.expected, got=error.got, do=do) from error


@lru_cache(maxsize=64)
def _cached_roles(names: tuple[str, ...]) -> Roles:
    # The samples of one set have the same few names; finding the roles anew would cost more than the rest.
    return find_roles(names, BY_NAME, where="the label", with_id=False)


def _value_text(value: object) -> str:
    return "" if value is None else str(value)


def _table_roles(table: Table, columns: LabelColumns) -> Roles:
    try:
        return find_roles(table.header.cells, columns, where=table.header.where)
    except LabelError as error:
        if any(_is_number(cell) for cell in table.header.cells):
            raise LabelError(
                f"{table.header.where}: the table has no header",
                expected=error.expected,
                got=error.got,
                do="put a line with the names of the columns at the top, such as id,boneage,male",
            ) from error
        raise


def _is_number(text: str) -> bool:
    return text.strip().replace(".", "", 1).isdecimal()


def _check_gender_is_stated(table: Table, roles: Roles) -> None:
    """Refuse a column of 1 and 0 whose name does not say which gender 1 is."""
    for row in table.rows if roles.flag is None else ():
        if is_flag_value(row.cells[roles.gender]):
            column = table.header.cells[roles.gender].strip()
            raise LabelError(
                f"{row.where}: the column {column!r} does not say which gender is meant",
                expected="M, F, male or female; or a column named male or female",
                got=repr(row.cells[roles.gender]),
                do=f"say what 1 and true mean in {column!r} with --gender-is male or --gender-is female",
            )


def _unique_keys(table: Table, roles: Roles) -> list[str]:
    assert roles.id is not None
    places: dict[str, str] = {}
    for row in table.rows:
        key = parse_key(row.cells[roles.id], where=row.where)
        if key in places:
            raise LabelError(
                f"{row.where}: the id {key!r} stands in the table twice",
                expected="every id once (compared without image suffix)",
                got=f"{key!r} here and in {places[key]}",
                do="remove one of the two rows",
            )
        places[key] = row.where
    return list(places)


def _read_row(key: str, row: Row, roles: Roles, rejected: list[Rejected] | None) -> Label | None:
    where, cause = f"{row.where}: id {key!r}", "bad gender"
    try:
        gender = parse_gender(row.cells[roles.gender], flag=roles.flag, where=where)
        cause = "bad age"
        return Label(key, gender, parse_age_months(row.cells[roles.age], unit=roles.age_unit, where=where))
    except LabelError as error:
        if rejected is None:
            raise
        rejected.append(Rejected(key, cause, f"{error.problem}: {error.got}"))
        return None
