"""Parse the age of a label, and name the choices for the meaning of genders and ages.

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

GENDER_NAMES = {"F": "girls", "M": "boys"}
"""What texts and figures for people call the children of each gender; files and options have F and M."""

MAX_AGE_MONTHS = 240
MONTHS_PER = {"months": 1, "years": 12}
EXAMPLES = {"months": "94 or 90.5", "years": "7 or 7.5"}

_NUMBER = re.compile(r"\A[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?\Z")
_DECIMAL_COMMA = re.compile(r"\A([+-]?[0-9]+),([0-9]+)\Z")


def parse_age_months(text: str, *, unit: AgeUnit, where: str, decimal_comma: bool = False) -> float:
    """Return the age in `text`, given in `unit`, converted to months.

    Args:
        text: a plain number in ASCII digits.
        unit: the unit of the number.
        where: the location for error messages.
        decimal_comma: whether `94,5` is a number as well.

    Raises:
        LabelError: if `text` is not a number, or is outside 0 to 240 months.
    """
    plain = point_for_comma(text) if decimal_comma else text.strip()
    age_months = float(plain) * MONTHS_PER[unit] if _NUMBER.match(plain) else None
    if age_months is None or not 0 <= age_months <= MAX_AGE_MONTHS:
        problem = "the age is not a number" if age_months is None else "the age is out of range"
        raise LabelError(
            f"{where}: {problem}",
            expected=f"a number from 0 to {MAX_AGE_MONTHS // MONTHS_PER[unit]} {unit}, such as {EXAMPLES[unit]}",
            got=repr(text.strip()),
            do="correct the age or leave the sample out",
        )
    return age_months


def point_for_comma(text: str) -> str:
    """Return a number such as `94,5` with a decimal point, and any other text without surrounding space."""
    return _DECIMAL_COMMA.sub(r"\1.\2", text.strip())
