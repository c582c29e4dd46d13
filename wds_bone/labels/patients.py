"""Find the column of a label table that holds patients, and read its values.

In: normalized names of columns, or the text of a cell.
Out: a column, or a patient.
Invariant: patients are kept apart from labels, so that nothing that writes labels can write them.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

from wds_bone.errors import LabelError

_NAMES = (
    *("patient", "pat", "pt", "mrn", "subject", "subj", "participant", "proband", "pseudonym"),
    *("person", "individual", "child", "case", "paciente", "患者", "病人", "病历"),
)
_ENDINGS = ("", "id", "no", "nr", "num", "number", "code", "key", "name", "index", "uid", "编号", "号")
_SPELLINGS = [
    *(name for start in _NAMES for end in _ENDINGS for name in (start + end, end + start)),
    *("pid", "medicalrecordnumber", "hospitalnumber", "nhsnumber"),
]
_RANKS = {name: rank for rank, name in reversed(list(enumerate(_SPELLINGS)))}
_WHOLE_FLOAT = re.compile(r"\A([0-9]+)\.0+\Z")
_NO_PATIENT = {"", "nan", "na", "n/a", "#n/a", "none", "null", "nil", "unknown", "missing", "-", "--", "?"}


@dataclass
class PatientColumn:
    """The column with the patients, or one that looks like it: its name, and the patient of each key."""

    name: str | None = None
    patients: dict[str, str] = field(default_factory=dict, repr=False)


def find_patient_column(normalized: Sequence[str], *, without: Sequence[int]) -> int | None:
    """Return the column that looks most like patients, such as `patient_ID`, `Subject No.` or `id_patient`.

    Args:
        normalized: the names of the columns in lower case, without spaces and punctuation.
        without: columns that have another role.
    """
    found = [(_RANKS[name], i) for i, name in enumerate(normalized) if name in _RANKS]
    return next((i for _, i in sorted(found) if i not in without), None)


def parse_patient(text: str, *, where: str, must_exist: bool) -> str | None:
    """Return the patient in `text`, in one spelling; None if there is none.

    Spellings that differ in case, spaces, width or the `.0` of a float are one patient: taking two patients for one
    separates nothing, but taking one for two could.

    Raises:
        LabelError: if there is none but must be.
    """
    patient = _WHOLE_FLOAT.sub(r"\1", " ".join(unicodedata.normalize("NFKC", text).casefold().split()))
    if patient not in _NO_PATIENT:
        return patient
    if must_exist:
        raise LabelError(
            f"{where}: the patient is missing",
            expected="a patient in every row, because films without one could be in two splits",
            got=repr(text),
            do="fill in the patient, or leave such films out with --on-bad skip --max-bad N",
        )
    return None
