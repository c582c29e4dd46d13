"""Parse the values of a label: a key, an age in months, a gender.

In: the text of one cell, and its location for error messages.
Out: the value.
Invariant: nothing is guessed; an ambiguous value is refused.
"""

import re
from typing import Literal

from wds_bone.errors import LabelError

Gender = Literal["F", "M"]
Flag = Literal["male", "female"]
AgeUnit = Literal["months", "years"]

KEY_PATTERN = re.compile(r"\A[A-Za-z0-9_-]{1,64}\Z")
MAX_AGE_MONTHS = 240
MONTHS_PER = {"months": 1, "years": 12}
EXAMPLES = {"months": "94 or 90.5", "years": "7 or 7.5"}

_IMAGE_SUFFIX = re.compile(r"\.(png|jpe?g|tiff?|dcm)\Z", re.IGNORECASE)
_WHOLE_FLOAT = re.compile(r"\A([0-9]+)\.0+\Z")
_NUMBER = re.compile(r"\A[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?\Z")
_GENDERS: dict[str, Gender] = {"f": "F", "female": "F", "m": "M", "male": "M"}
_FLAG_VALUES = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}


def parse_key(text: str, *, where: str) -> str:
    """Return the key of a sample: the id without surrounding space, image suffix and the `.0` of a float.

    Raises:
        LabelError: if the rest is not 1 to 64 of the characters `A-Z a-z 0-9 _ -`.
    """
    key = _WHOLE_FLOAT.sub(r"\1", _IMAGE_SUFFIX.sub("", text.strip()))
    if not KEY_PATTERN.match(key):
        raise LabelError(
            f"{where}: the id is not a valid key",
            expected="1 to 64 of the characters A-Z a-z 0-9 _ - (an image suffix such as .png may follow)",
            got=repr(text),
            do="rename the image and its id, or choose another column with --id-column",
        )
    return key


def parse_age_months(text: str, *, unit: AgeUnit, where: str) -> float:
    """Return the age in `text`, given in `unit`, converted to months.

    Raises:
        LabelError: if `text` is not a plain number in ASCII digits, or is outside 0 to 240 months.
    """
    age_months = float(text) * MONTHS_PER[unit] if _NUMBER.match(text := text.strip()) else None
    if age_months is None or not 0 <= age_months <= MAX_AGE_MONTHS:
        problem = "the age is not a number" if age_months is None else "the age is out of range"
        raise LabelError(
            f"{where}: {problem}",
            expected=f"a number from 0 to {MAX_AGE_MONTHS // MONTHS_PER[unit]} {unit}, such as {EXAMPLES[unit]}",
            got=repr(text),
            do="correct the age or leave the sample out",
        )
    return age_months


def parse_gender(text: str, *, flag: Flag | None, where: str) -> Gender:
    """Return the gender in `text`, F or M.

    Args:
        text: a word or letter, or 1, 0, true or false if `flag` is set.
        flag: the gender that 1 and true mean; None refuses these values.
        where: the location for error messages.

    Raises:
        LabelError: if `text` is none of these, or is `f` in a column of females, where it could be short for false.
    """
    value = text.strip().casefold()
    if value in _GENDERS and not (flag == "female" and value == "f"):
        return _GENDERS[value]
    if flag is None or value not in _FLAG_VALUES:
        raise LabelError(
            f"{where}: the gender is {'not recognized' if value else 'missing'}",
            expected="M, F, male or female" if flag is None else f"1, 0, true or false ({flag}), male or female",
            got=repr(text),
            do="correct the gender or leave the sample out; a gender is never guessed",
        )
    return "M" if _FLAG_VALUES[value] == (flag == "male") else "F"


def is_flag_value(text: str) -> bool:
    """Return whether `text` is 1, 0, true or false, which is a gender only if it is known what 1 means."""
    return text.strip().casefold() in _FLAG_VALUES
