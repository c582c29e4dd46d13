"""Read the gender of a child from the header of a DICOM film.

In: the path of a film.
Out: F or M.
Invariant: only the values F and M of PatientSex are genders; nothing else in a file is taken for one.
"""

import warnings
from pathlib import Path
from typing import get_args

from wds_bone.errors import ImageError
from wds_bone.images.contents import read_head
from wds_bone.images.read import pydicom_needed
from wds_bone.labels.values import Gender

_HEAD_BYTES = 2**20  # PatientSex, (0010,0040), is among the first elements
_DO = "predict this film by itself with --gender"


def read_patient_gender(path: Path) -> Gender:
    """Return PatientSex of a DICOM file; the pixels are not read.

    Raises:
        ImageError: if the file cannot be read or is not DICOM, or if its PatientSex is missing or neither F nor M.
        ConfigError: if pydicom is not installed.
    """
    head, file_format = read_head(path, _HEAD_BYTES)
    if file_format != "DICOM":
        got = file_format or f"bytes {head[:16]!r}"
        raise ImageError(f"{path}: only DICOM states a gender", expected="DICOM", got=got, do=_DO)
    with pydicom_needed(str(path)):
        from wds_bone.images.dicom import read_patient_sex
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns about odd values, and about the end of `head`
        sex = read_patient_sex(head, where=str(path))
    for gender in get_args(Gender):
        if sex == gender:
            return gender  # type: ignore[no-any-return]
    got = "no such element" if sex is None else repr(sex)
    raise ImageError(f"{path}: PatientSex is not a gender", expected="F or M", got=got, do=_DO)
