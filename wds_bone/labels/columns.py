"""Which column of a label table has which role: id, age, gender.

In: the names in a header or of a JSON object. Out: `Roles`. Invariant: names are compared without case, spaces and
punctuation; every role is played by exactly one column, or the table is refused. Three ranks of ids keep apart what
must join with the image files from what names a person: `image_ID` wins over `patient_ID`, two of one rank are refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar, get_args

from wds_bone.errors import ConfigError, LabelError
from wds_bone.labels.values import AgeUnit, Flag

Word = TypeVar("Word", bound=str)

_ID_RANKS = (
    ("id", "image id", "case id", "key"),
    ("image", "image name", "file", "file name", "file id"),
    ("patient id", "patient", "pid", "subject id", "subject"),
)
_AGES = ("age", "bone age", "skeletal age", "ground truth bone age")
_UNIT_ENDINGS: dict[str, AgeUnit] = {"months": "months", "inmonths": "months", "years": "years", "inyears": "years"}
_GENDER_WORDS = ("gender", "sex")
_GENDER_FLAGS: dict[str, Flag] = {"male": "male", "ismale": "male", "female": "female", "isfemale": "female"}


@dataclass(frozen=True)
class LabelColumns:
    """What the user says about a label table; None leaves it to the column's name.

    Raises:
        ConfigError: `gender_is` or `age_unit` is none of its words.
    """

    id_column: str | None = None
    age_column: str | None = None
    gender_column: str | None = None
    gender_is: Flag | None = None  # what 1 or true means in the gender column
    age_unit: AgeUnit | None = None

    def __post_init__(self) -> None:
        for setting, word, kind in (("--gender-is", self.gender_is, Flag), ("--age-unit", self.age_unit, AgeUnit)):
            if word is not None and word not in get_args(kind):
                expected = " or ".join(get_args(kind))
                raise ConfigError(f"{setting} is unknown", expected=expected, got=repr(word), do="give one of these")


BY_NAME = LabelColumns()


@dataclass(frozen=True)
class Roles:
    """The place of each role among the columns, and what its values mean."""

    id: int | None
    age: int
    gender: int
    flag: Flag | None  # what 1 or true means; None: only words are understood
    age_unit: AgeUnit
    unit_is_stated: bool  # by the user, or years by the column's name


def find_roles(names: Sequence[str], columns: LabelColumns, *, where: str, with_id: bool = True) -> Roles:
    """Return which of the columns `names` has which role.

    Args:
        names: the header of a table, or the names of a JSON object.
        columns: what the user says.
        where: file and line, or sample, for the messages.
        with_id: False where the key is known already.

    Raises:
        LabelError: no column or several for one role, or what the user says contradicts a name.
    """
    plain = [_plain(name) for name in names]
    age = _find(names, columns.age_column, _ages(plain), role="age", where=where)
    gender = _find(names, columns.gender_column, _genders(plain), role="gender", where=where)
    identity = _find(names, columns.id_column, _ids(plain), role="id", where=where) if with_id else None
    if len({age, gender, identity}) < 3:
        expected, do = "one column each for id, age and gender", "name other columns"
        raise _refused(names, f"{where}: one column for two roles", expected, do)
    named_unit = next((unit for ending, unit in _UNIT_ENDINGS.items() if plain[age].endswith(ending)), None)
    return Roles(
        id=identity,
        age=age,
        gender=gender,
        flag=_agreed(columns.gender_is, _GENDER_FLAGS.get(plain[gender]), names[gender], "--gender-is", where),
        age_unit=_agreed(columns.age_unit, named_unit, names[age], "--age-unit", where) or "months",
        unit_is_stated=columns.age_unit is not None or named_unit == "years",
    )


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _ids(plain: Sequence[str]) -> list[int]:
    ranks = [[i for i, name in enumerate(plain) if name in map(_plain, rank)] for rank in _ID_RANKS]
    return next(filter(None, ranks), [])


def _ages(plain: Sequence[str]) -> list[int]:
    known = {_plain(age) + ending for age in _AGES for ending in ("", *_UNIT_ENDINGS)}
    return [i for i, name in enumerate(plain) if name in known]


def _genders(plain: Sequence[str]) -> list[int]:
    return [i for i, name in enumerate(plain) if name in _GENDER_FLAGS or name in _GENDER_WORDS]


def _find(names: Sequence[str], wanted: str | None, candidates: list[int], *, role: str, where: str) -> int:
    """Return the one column for `role`: the `wanted` one, else the only one of the `candidates`."""
    if wanted is not None:
        exact = [i for i, name in enumerate(names) if name.strip() == wanted.strip()]
        candidates = exact or [i for i, name in enumerate(names) if _plain(name) == _plain(wanted) != ""]
    if len(candidates) == 1:
        return candidates[0]
    setting, expected = f"--{role}-column", f"one column named {_known_names(role) if wanted is None else repr(wanted)}"
    if candidates:
        found = [names[i] for i in candidates]
        raise _refused(found, f"{where}: {len(found)} columns for the {role}", expected, f"say which with {setting}")
    raise _refused(names, f"{where}: no column for the {role}", expected, f"name the column with {setting}")


def _known_names(role: str) -> str:
    known = {"id": sum(_ID_RANKS, ()), "age": _AGES, "gender": (*_GENDER_WORDS, "male", "female")}[role]
    return " or ".join(known) + (" (months or years may follow)" if role == "age" else "")


def _agreed(said: Word | None, named: Word | None, column: str, setting: str, where: str) -> Word | None:
    """Return what the user says or else the column's name; both may speak only if they agree."""
    if said is not None and named is not None and said != named:
        raise LabelError(
            f"{where}: {setting} contradicts the name of the column",
            expected=f"{named}, as the column {column!r} says",
            got=f"{setting} {said}",
            do=f"leave {setting} out, or rename the column",
        )
    return said or named


def _refused(found: Sequence[str], problem: str, expected: str, do: str) -> LabelError:
    got = ", ".join(repr(name.strip()) for name in found) or "no columns"
    return LabelError(problem, expected=expected, got=got, do=do)
