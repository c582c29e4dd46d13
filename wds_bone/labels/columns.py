"""Find the columns of a label table that hold the id, the age and the gender.

In: the names in a header, or the names in a JSON object.
Out: `Roles`, or `GenderRoles` where ages are not needed: the column of each role, and how to read its values.
Invariant: names are compared without case, spaces and punctuation; each role has exactly one column, or the table is
refused.

The names of an id column form three tiers, because the id must match the image files rather than identify a patient:
`image_ID` is preferred to `patient_ID`, and two names of the same tier are refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar, get_args

from wds_bone.errors import ConfigError, LabelError
from wds_bone.labels.csv_table import DELIMITERS
from wds_bone.labels.genders import parse_gender_words
from wds_bone.labels.patients import find_patient_column
from wds_bone.labels.values import AgeUnit, Flag

Choice = TypeVar("Choice", bound=str)

_ID_TIERS = (
    ("id", "image id", "case id", "key"),
    ("image", "image name", "file", "file name", "file id", "film"),
    ("patient id", "patient", "pid", "subject id", "subject"),
)
_AGE_NAMES = ("age", "bone age", "skeletal age", "ground truth bone age")
_UNIT_ENDINGS: dict[str, AgeUnit] = {"months": "months", "inmonths": "months", "years": "years", "inyears": "years"}
_GENDER_NAMES = ("gender", "sex")
_FLAG_NAMES: dict[str, Flag] = {"male": "male", "ismale": "male", "female": "female", "isfemale": "female"}


@dataclass(frozen=True)
class LabelColumns:
    """What the user specifies about a label table; None derives it from the names of the columns.

    Attributes:
        id_column: the name of the column with the ids.
        age_column: the name of the column with the ages.
        gender_column: the name of the column with the genders.
        gender_is: what 1 or true means in the gender column.
        age_unit: the unit of the ages.
        gender_words: words and their genders, such as `男=M`, which replace the built-in ones.
        id_width: the number of digits of ids that are numbers; None leaves them as they are.
        safe_keys: whether to make keys from ids that are not keys.
        delimiter: the separator of the cells of a CSV, a name in `DELIMITERS`. With any other than the comma, `94,5` is
            a number.
        patient_column: the name of the column with the patients.

    Raises:
        ConfigError: if a setting is not one of its choices or contradicts another one.
    """

    id_column: str | None = None
    age_column: str | None = None
    gender_column: str | None = None
    gender_is: Flag | None = None
    age_unit: AgeUnit | None = None
    gender_words: tuple[str, ...] = ()
    id_width: int | None = None
    safe_keys: bool = False
    delimiter: str = ","
    patient_column: str | None = None

    def __post_init__(self) -> None:
        _check_choice("--gender-is", self.gender_is, (None, *get_args(Flag)))
        _check_choice("--age-unit", self.age_unit, (None, *get_args(AgeUnit)))
        _check_choice("--delimiter", self.delimiter, tuple(DELIMITERS))
        if parse_gender_words(self.gender_words) and self.gender_is:
            raise ConfigError("--gender-is and --gender-words contradict each other", do="leave one of them out")


def _check_choice(option: str, choice: str | None, choices: tuple[str | None, ...]) -> None:
    if choice not in choices:
        expected = " or ".join(filter(None, choices))
        raise ConfigError(f"{option}: unknown choice", expected=expected, got=repr(choice), do="use one of these")


BY_NAME = LabelColumns()


@dataclass(frozen=True)
class Roles:
    """The index of the column of each role, and what the values of the column mean.

    `patient` is the column that the user named, or else one that looks like it.
    """

    id: int | None
    patient: int | None
    age: int
    gender: int
    patient_is_named: bool
    flag: Flag | None  # what 1 or true means; with None only words and letters are read
    age_unit: AgeUnit
    states_age_unit: bool  # by the user, or as years in the name of the column


@dataclass(frozen=True)
class GenderRoles:
    """The index of the columns of ids and genders, and what 1 or true means, as in `Roles`."""

    id: int
    gender: int
    flag: Flag | None


def find_roles(names: Sequence[str], columns: LabelColumns, *, where: str, with_id: bool = True) -> Roles:
    """Return the column of each role.

    Args:
        names: the header of a table, or the names in a JSON object.
        columns: what the user specified.
        where: file and line, or sample, for error messages.
        with_id: False if the key is already known, so that no id column is needed.

    Raises:
        LabelError: if a role has no column or several, or if a setting contradicts the name of a column.
    """
    normalized = [_normalize(name) for name in names]
    age = _find_column(names, columns.age_column, _age_candidates(normalized), role="age", where=where)
    gender = _find_column(names, columns.gender_column, _gender_candidates(normalized), role="gender", where=where)
    patient = identity = None
    if columns.patient_column is not None:
        patient = _find_column(names, columns.patient_column, [], role="patient", where=where)
    if with_id:
        candidates = _id_candidates(normalized, without=patient)
        identity = _find_column(names, columns.id_column, candidates, role="id", where=where)
    chosen = [index for index in (age, gender, identity, patient) if index is not None]
    _refuse_two_roles(chosen, names, where)
    named_unit = next((unit for ending, unit in _UNIT_ENDINGS.items() if normalized[age].endswith(ending)), None)
    return Roles(
        id=identity,
        patient=find_patient_column(normalized, without=chosen) if patient is None else patient,
        age=age,
        gender=gender,
        patient_is_named=patient is not None,
        flag=_find_flag(names[gender], columns, where),
        age_unit=_reconcile(columns.age_unit, named_unit, names[age], "--age-unit", where) or "months",
        states_age_unit=columns.age_unit is not None or named_unit == "years",
    )


def find_gender_roles(names: Sequence[str], columns: LabelColumns, *, where: str) -> GenderRoles:
    """Return the columns of ids and genders; a column of ages is not looked for.

    Args:
        names: the header of a table.
        columns: what the user specified; what it says about ages and patients is not used.
        where: file and line, for error messages.

    Raises:
        LabelError: if a role has no column or several, or if a setting contradicts the name of a column.
    """
    normalized = [_normalize(name) for name in names]
    gender = _find_column(names, columns.gender_column, _gender_candidates(normalized), role="gender", where=where)
    candidates = _id_candidates(normalized, without=None)
    identity = _find_column(names, columns.id_column, candidates, role="id", where=where)
    _refuse_two_roles([gender, identity], names, where)
    return GenderRoles(identity, gender, _find_flag(names[gender], columns, where))


def _refuse_two_roles(chosen: Sequence[int], names: Sequence[str], where: str) -> None:
    if len(set(chosen)) < len(chosen):
        expected = "a different column for each of id, age, gender and patient"
        do = "choose another column for one of them"
        raise _column_error(names, f"{where}: one column has two roles", expected, do)


def _find_flag(name: str, columns: LabelColumns, where: str) -> Flag | None:
    """Return what 1 or true means in the gender column of this name."""
    return _reconcile(columns.gender_is, _FLAG_NAMES.get(_normalize(name)), name, "--gender-is", where)


def _normalize(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _id_candidates(normalized: Sequence[str], *, without: int | None) -> list[int]:
    free = [(i, name) for i, name in enumerate(normalized) if i != without]
    tiers = [[i for i, name in free if name in map(_normalize, tier)] for tier in _ID_TIERS]
    return next(filter(None, tiers), [])


def _age_candidates(normalized: Sequence[str]) -> list[int]:
    known = {_normalize(age) + ending for age in _AGE_NAMES for ending in ("", *_UNIT_ENDINGS)}
    return [i for i, name in enumerate(normalized) if name in known]


def _gender_candidates(normalized: Sequence[str]) -> list[int]:
    return [i for i, name in enumerate(normalized) if name in _FLAG_NAMES or name in map(_normalize, _GENDER_NAMES)]


def _find_column(names: Sequence[str], wanted: str | None, candidates: list[int], *, role: str, where: str) -> int:
    """Return the column of `role`: the `wanted` one, else the only one of the `candidates`."""
    if wanted is not None:
        exact = [i for i, name in enumerate(names) if name.strip() == wanted.strip()]
        candidates = exact or [i for i, name in enumerate(names) if _normalize(name) == _normalize(wanted) != ""]
    if len(candidates) == 1:
        return candidates[0]
    setting, expected = f"--{role}-column", f"one column named {_known_names(role) if wanted is None else repr(wanted)}"
    if candidates:
        found = [names[i] for i in candidates]
        problem = f"{where}: {len(found)} columns could hold the {role}"
        raise _column_error(
            found, problem, expected, f"choose one with {setting}; if the names are the same, rename one"
        )
    raise _column_error(
        names, f"{where}: no column holds the {role}", expected, f"say which column it is with {setting}"
    )


def _known_names(role: str) -> str:
    known = {"id": sum(_ID_TIERS, ()), "age": _AGE_NAMES, "gender": (*_GENDER_NAMES, "male", "female")}[role]
    return " or ".join(known) + (" (months or years may follow)" if role == "age" else "")


def _reconcile(setting: Choice | None, named: Choice | None, column: str, option: str, where: str) -> Choice | None:
    """Return the user's setting, or else what the name of the column says; refuse them if they differ."""
    if setting is not None and named is not None and setting != named:
        raise LabelError(
            f"{where}: {option} contradicts the name of the column",
            expected=f"{named}, as in the name of the column {column!r}",
            got=f"{option} {setting}",
            do=f"omit {option}, or rename the column",
        )
    return setting or named


def _column_error(found: Sequence[str], problem: str, expected: str, do: str) -> LabelError:
    got = ", ".join(repr(name.strip()) for name in found) or "no columns"
    return LabelError(problem, expected=expected, got=got, do=do)
