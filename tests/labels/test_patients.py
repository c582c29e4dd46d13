"""Test the patients in a label table: which column holds them, and what happens if one is missing."""

from pathlib import Path

import pytest

from wds_bone.errors import LabelError
from wds_bone.labels.patients import PatientColumn
from wds_bone.labels.read import Label, LabelColumns, RejectedSample, read_label_table, read_labels

NAMED = LabelColumns(patient_column="who")


def read(folder: Path, text: str, columns: LabelColumns, rejected: list[RejectedSample] | None = None) -> PatientColumn:
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return read_label_table(path, columns, rejected=rejected).patients


@pytest.mark.parametrize(
    "name",
    [
        *("patient_ID", "patientid", "PatientID", "Patient", "patient no.", "Patient Number", "id_patient", "PID"),
        *("subject", "subject_id", "Subject ID", "case", "case_no", "person", "person_id", "participant", "MRN"),
        *("patient_name", "child", "pseudonym", "paciente", "患者编号", "病人ID"),
    ],
)
def test_a_column_that_looks_like_a_patient_is_found(tmp_path: Path, name: str):
    patients = read(tmp_path, f"image_id,{name},boneage,male\n1,p1,12,1\n2,,13,0\n", LabelColumns())
    assert (patients.name, patients.patients) == (name, {"1": "p1"})


@pytest.mark.parametrize("name", ["patient_age", "patient sex", "study", "hospital", "patient_comment", ""])
def test_other_columns_are_not_taken_for_patients(tmp_path: Path, name: str):
    assert read(tmp_path, f"id,{name},boneage,male\n1,p1,12,1\n", LabelColumns()) == PatientColumn()


def test_the_column_of_the_ids_is_not_a_patient_column_and_the_likeliest_of_several_is_taken(tmp_path: Path):
    assert read(tmp_path, "patient_id,boneage,male\n1,12,1\n", LabelColumns()).name is None
    assert read(tmp_path, "id,case,patient_ID,boneage,male\n1,2,3,12,1\n", LabelColumns()).name == "patient_ID"


def test_the_patient_column_that_the_user_names_is_not_taken_for_the_ids(tmp_path: Path):
    columns = LabelColumns(patient_column="ID")
    assert read(tmp_path, "ID,file,boneage,male\np1,7,12,1\n", columns).patients == {"7": "p1"}
    with pytest.raises(LabelError, match="no column holds the id"):
        read(tmp_path, "patient_ID,picture,boneage,male\np1,7,12,1\n", LabelColumns(patient_column="patient_ID"))


@pytest.mark.fault("A3")
def test_a_patient_column_that_is_missing_or_has_another_role_is_refused(tmp_path: Path):
    with pytest.raises(LabelError, match=r"no column holds the patient(?s:.*)'who'(?s:.*)--patient-column"):
        read(tmp_path, "id,boneage,male\n1,12,1\n", NAMED)
    with pytest.raises(LabelError, match="one column has two roles"):
        read(tmp_path, "id,boneage,male\n1,12,1\n", LabelColumns(patient_column="male"))


def test_spellings_of_a_patient_that_differ_in_case_space_width_or_a_float_are_one_patient(tmp_path: Path):
    texts = ["P 7", " p  7", "Ｐ 7", "17", "17.0", "１７"]
    rows = "".join(f"{number},{text},12,1\n" for number, text in enumerate(texts))
    found = read(tmp_path, "id,who,boneage,male\n" + rows, NAMED).patients
    assert len(set(found.values())) == 2
    assert found["0"] == found["1"] == found["2"]
    assert found["3"] == found["4"] == found["5"]


@pytest.mark.parametrize("text", ["", " ", "NaN", "N/A", "null", "None", "unknown", "-", "?"])
def test_a_missing_patient_is_refused_with_its_row_or_counted(tmp_path: Path, text: str):
    table = f"id,who,boneage,male\n1,p1,12,1\n2,{text},13,0\n"
    with pytest.raises(LabelError, match=r"labels\.csv: line 3: id '2': the patient is missing") as caught:
        read(tmp_path, table, NAMED)
    assert "p1" not in str(caught.value)
    rejected: list[RejectedSample] = []
    assert read(tmp_path, table, NAMED, rejected).patients == {"1": "p1"}
    assert [(bad.key, bad.cause) for bad in rejected] == [("2", "no patient")]


def test_labels_do_not_contain_patients_and_a_patient_column_does_not_show_them(tmp_path: Path):
    patients = read(tmp_path, "id,who,boneage,male\n1,secret,12,1\n", NAMED)
    assert read_labels(tmp_path / "labels.csv", NAMED) == [Label("1", "M", 12.0)]
    assert "secret" not in repr(patients)
