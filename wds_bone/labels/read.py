"""Read labels from a label table, or from the JSON of one sample.

In: a CSV file or .xlsx workbook in any dialect of the RSNA tables, or the names and values of a JSON object.
Out: a `Label` (key, gender, age in months) for each row, in the order of the table.
Invariant: a label is read as written or refused with its location; a gender is never guessed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from wds_bone.errors import LabelError
from wds_bone.labels.columns import BY_NAME, LabelColumns, Roles, find_roles
from wds_bone.labels.patients import PatientColumn, parse_patient
from wds_bone.labels.table import Row, Table, read_table
from wds_bone.labels.values import KEY_PATTERN, Gender, is_flag_value, parse_age_months, parse_gender, parse_key

__all__ = [
    "KEY_PATTERN",
    "Gender",
    "Label",
    "LabelColumns",
    "RejectedSample",
    "check_ages_are_in_months",
    "label_from_mapping",
    "read_labels",
    "states_unit",
]

# Ages are taken for years if there are enough of them and at most this share is above this many months.
_YEARS_MIN_LABELS = 10
_YEARS_MAX_AGE_MONTHS = 20
_YEARS_MAX_OLDER_SHARE = 0.05
_GIVE_UNIT_OPTION = "give the unit with --age-unit years or --age-unit months"
_WRITE_AGE_MONTHS = "rewrite the labels with the ages in months under the name age_months"


@dataclass(frozen=True)
class Label:
    """The key, gender and bone age of one sample."""

    key: str
    gender: Gender
    age_months: float


@dataclass(frozen=True)
class RejectedSample:
    """A sample that is left out: its key, the category that it is counted in, and the full problem."""

    key: str
    cause: str
    problem: str


def read_labels(
    path: str | Path,
    columns: LabelColumns = BY_NAME,
    *,
    rejected: list[RejectedSample] | None = None,
    patients: PatientColumn | None = None,
) -> list[Label]:
    """Return the labels of a table, in its order.

    Args:
        path: a .csv (UTF-8, commas) or .xlsx file with a header.
        columns: what the columns mean, if their names do not say so.
        rejected: a list to append rows with a bad age, gender or patient to; None raises an error for the first.
        patients: receives the column that `columns` names, in which no patient may be missing, or else a column that
            looks like it.

    Raises:
        LabelError: if the table cannot be read, or a row is wrong.
        ConfigError: if the file is an .xlsx workbook and openpyxl is not installed.
    """
    table = read_table(path)
    roles = _table_roles(table, columns)
    _check_gender_is_stated(table, roles)
    keys = _unique_keys(table, roles)
    patients = PatientColumn() if patients is None else patients
    if roles.patient is not None:
        patients.name = table.header.cells[roles.patient].strip()
    found = (_read_row(key, row, roles, rejected, patients) for key, row in zip(keys, table.rows, strict=True))
    labels = [label for label in found if label is not None]
    if not roles.states_age_unit:
        where = f"{table.header.where}: the column {table.header.cells[roles.age].strip()!r}"
        check_ages_are_in_months([label.age_months for label in labels], where, do=_GIVE_UNIT_OPTION)
    return labels


def label_from_mapping(key: str, mapping: Mapping[str, object]) -> Label:
    """Return the label of a sample from the JSON next to its image, written by this package or another one.

    Args:
        key: the key of the sample; it is not checked here.
        mapping: names to strings, numbers or booleans, in any dialect of the label tables; other names are ignored.

    Raises:
        LabelError: if age or gender is missing, occurs twice, or has a bad value.
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
    """Return whether the JSON of a sample states the unit of the age by the name `age_months` or a name in years.

    Raises:
        LabelError: if age or gender is missing or occurs twice.
    """
    return "age_months" in mapping or _mapping_roles(tuple(mapping), "the label").states_age_unit


def check_ages_are_in_months(ages_months: Sequence[float], where: str, *, do: str = _WRITE_AGE_MONTHS) -> None:
    """Refuse ages that are probably in years: at least 10 of them, at most 5 % above 20 months.

    Args:
        ages_months: the ages of labels that do not state their unit.
        where: table and column, or folder, for the error message.
        do: the remedy for the error message.

    Raises:
        LabelError: if the ages look like years.
    """
    num_older = sum(age > _YEARS_MAX_AGE_MONTHS for age in ages_months)
    if len(ages_months) < _YEARS_MIN_LABELS or num_older > _YEARS_MAX_OLDER_SHARE * len(ages_months):
        return
    age_range, num_young = f"{min(ages_months):g} to {max(ages_months):g}", len(ages_months) - num_older
    raise LabelError(
        f"{where}: the ages look like years",
        expected="ages in months",
        got=f"ages {age_range}; {num_young} of {len(ages_months)} are {_YEARS_MAX_AGE_MONTHS} or less",
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
    # The samples of a set use the same few names; finding the roles each time would take longer than the rest.
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
                do="add a first line with the names of the columns, such as id,boneage,male",
            ) from error
        raise


def _is_number(text: str) -> bool:
    return text.strip().replace(".", "", 1).isdecimal()


def _check_gender_is_stated(table: Table, roles: Roles) -> None:
    """Refuse a gender column with 1, 0, true or false if it is not known which gender 1 means."""
    for row in table.rows if roles.flag is None else ():
        if is_flag_value(row.cells[roles.gender]):
            column = table.header.cells[roles.gender].strip()
            raise LabelError(
                f"{row.where}: the name of the column {column!r} does not say which gender 1 or true means",
                expected="M, F, male or female, or a column named male or female",
                got=repr(row.cells[roles.gender]),
                do=f"state what 1 and true mean in {column!r} with --gender-is male or --gender-is female",
            )


def _unique_keys(table: Table, roles: Roles) -> list[str]:
    assert roles.id is not None
    locations: dict[str, str] = {}
    for row in table.rows:
        key = parse_key(row.cells[roles.id], where=row.where)
        if key in locations:
            raise LabelError(
                f"{row.where}: the id {key!r} occurs twice in the table",
                expected="each id once, ignoring the image suffix",
                got=f"{key!r} here and at {locations[key]}",
                do="remove one of the two rows",
            )
        locations[key] = row.where
    return list(locations)


def _read_row(
    key: str, row: Row, roles: Roles, rejected: list[RejectedSample] | None, patients: PatientColumn
) -> Label | None:
    where, cause = f"{row.where}: id {key!r}", "bad gender"
    try:
        gender = parse_gender(row.cells[roles.gender], flag=roles.flag, where=where)
        cause = "bad age"
        age_months = parse_age_months(row.cells[roles.age], unit=roles.age_unit, where=where)
        cause = "no patient"
        patient = _read_patient(row, roles, where)
        if patient is not None:
            patients.patients[key] = patient
        return Label(key, gender, age_months)
    except LabelError as error:
        if rejected is None:
            raise
        rejected.append(RejectedSample(key, cause, f"{error.problem}: {error.got}"))
        return None


def _read_patient(row: Row, roles: Roles, where: str) -> str | None:
    if roles.patient is None:
        return None
    return parse_patient(row.cells[roles.patient], where=where, must_exist=roles.patient_is_named)
