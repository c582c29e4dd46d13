"""Test `read_patient_gender`: PatientSex is read as it is, and nothing else is taken for a gender."""

from pathlib import Path

import pytest

from tests.images.broken_inputs import DEEP_FILM, film_bytes
from tests.images.dicom_films import dicom_bytes
from wds_bone.errors import ImageError
from wds_bone.images.patient_sex import read_patient_gender


def write(folder: Path, contents: bytes) -> Path:
    (folder / "film.dcm").write_bytes(contents)
    return folder / "film.dcm"


@pytest.mark.parametrize("gender", ["F", "M"])
@pytest.mark.parametrize("headerless", [False, True])
def test_the_gender_is_patient_sex(gender: str, headerless: bool, tmp_path: Path) -> None:
    path = write(tmp_path, dicom_bytes(DEEP_FILM, headerless=headerless, PatientSex=gender))
    assert read_patient_gender(path) == gender


@pytest.mark.parametrize(
    ("elements", "got"),
    [
        ({}, "no such element"),
        ({"PatientSex": ""}, "''"),
        ({"PatientSex": "O"}, "'O'"),
        ({"PatientSex": ["F", "M"]}, "F.*M"),
    ],
)
def test_any_other_value_of_patient_sex_is_refused(elements: dict[str, object], got: str, tmp_path: Path) -> None:
    path = write(tmp_path, dicom_bytes(DEEP_FILM, PatientName="Male^Mr", **elements))
    with pytest.raises(ImageError, match=f"(?s){path}: PatientSex is not a gender.*got: +.*{got}"):
        read_patient_gender(path)


def test_the_pixels_are_not_read(tmp_path: Path) -> None:
    contents = dicom_bytes(DEEP_FILM, PatientSex="F")
    path = write(tmp_path, contents[: contents.index(DEEP_FILM.tobytes())])
    assert read_patient_gender(path) == "F"


@pytest.mark.fault("A8", "H1")
@pytest.mark.parametrize(
    ("contents", "problem"),
    [
        (film_bytes("PNG"), "only DICOM states a gender"),
        (b"", "only DICOM states a gender"),
        (b"F", "only DICOM states a gender"),
        (dicom_bytes(DEEP_FILM, PatientSex="F")[:200], "PatientSex is not a gender|damaged"),
    ],
)
def test_other_files_state_no_gender(contents: bytes, problem: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=problem):
        read_patient_gender(write(tmp_path, contents))


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    for name in ("missing.dcm", "a\0b", "."):
        with pytest.raises(ImageError, match=r"cannot be read|instead of a film"):
            read_patient_gender(tmp_path / name)
