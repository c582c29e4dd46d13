"""Read labels from a label table, or from the JSON of one sample.

In: a CSV file or .xlsx workbook in any dialect of the RSNA tables, or the names and values of a JSON object.
Out: a `Label` (key, gender, age in months) for each row, in the order of the table.
Invariant: a label is read as written or refused with its location; a gender is never guessed.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from wds_bone.errors import LabelError
from wds_bone.labels.columns import BY_NAME, LabelColumns, Roles, find_roles
from wds_bone.labels.csv_table import DELIMITERS
from wds_bone.labels.genders import (
    Vocabulary,
    WordCounts,
    check_vocabulary,
    count_word,
    find_vocabulary,
    parse_gender,
)
from wds_bone.labels.header import find_table_roles
from wds_bone.labels.keys import KEY_PATTERN, parse_key
from wds_bone.labels.patients import PatientColumn, parse_patient
from wds_bone.labels.rows import identified_rows
from wds_bone.labels.table import Table, open_table
from wds_bone.labels.values import Gender, parse_age_months
from wds_bone.storage.location import Location

__all__ = [
    "KEY_PATTERN",
    "Gender",
    "Label",
    "LabelColumns",
    "LabelTable",
    "RejectedSample",
    "check_ages_are_in_months",
    "label_from_mapping",
    "read_label_table",
    "read_labels",
    "states_unit",
]

# Ages are taken for years if there are enough of them and at most this share is above this many months.
_YEARS_MIN_LABELS = 10
_YEARS_MAX_AGE_MONTHS = 20
_YEARS_MAX_OLDER_SHARE = 0.05
_GIVE_UNIT_OPTION = "give the unit with --age-unit years or --age-unit months"
_WRITE_AGE_MONTHS = "rewrite the labels with the ages in months under the name age_months"


@dataclass(frozen=True, slots=True)
class Label:
    """The key, gender and bone age of one sample."""

    key: str
    gender: Gender
    age_months: float


@dataclass(frozen=True, slots=True)
class RejectedSample:
    """A sample that is left out: its key, the category that it is counted in, and the full problem."""

    key: str
    cause: str
    problem: str


@dataclass(frozen=True)
class LabelTable:
    """The labels of a table, in its order.

    Attributes:
        labels: one per row that is not rejected.
        sha256: the hash of the file.
        ids: the id of each key that was made with `safe_keys` and is therefore not the id itself.
        patients: the column that the user named, in which no patient may be missing, or else one that looks like it.
    """

    labels: list[Label]
    sha256: str
    ids: Mapping[str, str]
    patients: PatientColumn


@dataclass(frozen=True, slots=True)
class _SampleRow:
    """The texts of a sample, and its location for error messages."""

    key: str
    gender: str
    age: str
    patient: str
    path: Location
    where: str


def read_labels(
    path: str | Location, columns: LabelColumns = BY_NAME, *, rejected: list[RejectedSample] | None = None
) -> list[Label]:
    """Return the labels of a table, in its order; see `read_label_table`."""
    return read_label_table(path, columns, rejected=rejected).labels


def read_label_table(
    path: str | Location, columns: LabelColumns = BY_NAME, *, rejected: list[RejectedSample] | None = None
) -> LabelTable:
    """Read a label table once, row by row; memory holds its labels.

    Args:
        path: a .csv (UTF-8, commas) or .xlsx file with a header, or a pipe with the contents of one; at most 2^20 rows
            and 256 MiB.
        columns: what the columns mean, if their names do not say so.
        rejected: a list to append rows with a bad age, gender or patient to; None raises an error for the first.

    Raises:
        LabelError: if the table cannot be read or is too large, a row is wrong, or the words of the gender column
            belong to another vocabulary than the known one.
        ConfigError: if the file is an .xlsx workbook and openpyxl is not installed.
    """
    words: WordCounts = {}
    with open_table(path, delimiter=DELIMITERS[columns.delimiter]) as table:
        roles = find_table_roles(table, columns, find=find_roles)
        vocabulary = find_vocabulary(roles.flag, columns.gender_words)
        ids: dict[str, str] = {}
        patients = PatientColumn(None if roles.patient is None else table.header.cells[roles.patient].strip())
        rows = _sample_rows(table, roles, columns, words=words, ids=ids)
        labels, first_error = _read_rows(rows, roles, vocabulary, columns, rejected=rejected, patients=patients)
        check_vocabulary(words, vocabulary, column=table.header.cells[roles.gender].strip())
    if first_error is not None:
        raise first_error
    if not roles.states_age_unit:
        where = f"{table.header.where}: the column {table.header.cells[roles.age].strip()!r}"
        check_ages_are_in_months([label.age_months for label in labels], where, do=_GIVE_UNIT_OPTION)
    return LabelTable(labels, table.digest.hexdigest(), ids, patients)


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
        parse_gender(gender, find_vocabulary(roles.flag), where=where),
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


def _sample_rows(
    table: Table, roles: Roles, columns: LabelColumns, *, words: WordCounts, ids: dict[str, str]
) -> Iterator[_SampleRow]:
    """Yield the rows with their keys; count the words of the gender column, and collect the ids that are not keys."""
    assert roles.id is not None
    for identity, row in identified_rows(table, roles.id, columns):
        where, gender = row.where, row.cells[roles.gender]
        key = parse_key(identity, where=where, safe=columns.safe_keys)
        if key != identity:
            ids[key] = identity
        count_word(words, gender, where)
        patient = "" if roles.patient is None else row.cells[roles.patient]
        yield _SampleRow(key, gender, row.cells[roles.age], patient, row.path, f"{where}: id {identity!r}")


def _read_rows(
    rows: Iterable[_SampleRow],
    roles: Roles,
    vocabulary: Vocabulary,
    columns: LabelColumns,
    *,
    rejected: list[RejectedSample] | None,
    patients: PatientColumn,
) -> tuple[list[Label], LabelError | None]:
    """Return the labels and, if bad rows are not to be rejected, the error for the first one; collect the patients."""
    labels, first_error = list[Label](), None
    with_comma = columns.delimiter != ","
    for row in rows:
        cause = "bad gender"
        try:
            gender = parse_gender(row.gender, vocabulary, where=row.where)
            cause = "bad age"
            age = parse_age_months(row.age, unit=roles.age_unit, where=row.where, decimal_comma=with_comma)
            cause = "no patient"
            patient = parse_patient(row.patient, where=row.where, must_exist=roles.patient_is_named)
            labels.append(Label(row.key, gender, age))
            if patient is not None:
                patients.patients[row.key] = patient
        except LabelError as error:
            first_error = first_error or error
            if rejected is not None:
                problem = error.problem.replace(str(row.path), row.path.name)  # the same on every machine
                rejected.append(RejectedSample(row.key, cause, f"{problem}: {error.got}"))
    return labels, first_error if rejected is None else None
