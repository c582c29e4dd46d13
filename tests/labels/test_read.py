"""Test `read_labels` and `label_from_mapping`: every dialect gives the same labels, anything else an error."""

import contextlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wds_bone.errors import ConfigError, LabelError
from wds_bone.labels.read import KEY_PATTERN, Label, LabelColumns, RejectedSample, label_from_mapping, read_labels

LABELS = [Label("1377", "F", 180.0), Label("1402", "F", 24.0), Label("1450", "M", 136.5)]

DIALECTS = {
    "training": "id,boneage,male\n1377,180,False\n1402,24,False\n1450,136.5,True\n",
    "validation": "Image ID,male,Bone Age (months)\n1377,FALSE,180\n1402,FALSE,24\n1450,TRUE,136.5\n",
    "test": "Case ID,Sex,Ground truth bone age (months)\n1377,F,180\n1402,F,24\n1450,M,136.5\n",
    "padded, indexed": "   , id , boneage, male\n 0, 1377 , 180, False\n 1, 1402 , 24, False\n 2, 1450 , 136.5, True\n",
    "inverted flag": "pid,female,bone_age\n1377,1,180\n1402,1,24\n1450,0,136.5\n",
    "whole words": "id,boneage,gender\n1377,180.00,female\n1402,24.00,Female\n1450,136.50,male\n",
    "file names and patients": (
        "image_ID,dir,patient_ID,sex,bone_age\n"
        "1377.png,rsna/train,1377,F,180.0\n1402.PNG,rsna/train,1377,f,24.0\n1450.dcm,rsna/train,1450,m,136.5\n"
    ),
    "films": "Film,boneage,gender\n1377.png,180,F\n1402.png,24,F\n1450.png,136.5,M\n",
    "years in the name": "id,Age (years),sex\n1377,15,F\n1402,2,F\n1450,11.375,M\n",
    "floats and quotes": '"id","boneage","male"\n"1377.0","1.8e2","0.0"\n"1402.0","24","0"\n"1450.0","136.5","1"\n',
    "words in a flag column": "id,boneage,male\n1377,180,F\n1402,24,female\n1450,136.5,M\n",
    "Windows line ends": "\ufeffid,boneage,male\r\n1377,180,0\r\n\r\n1402,24,0\r\n1450,136.5,1\r\n",
    "columns without a role": (
        "chronological_age,id,path,year,boneage,male,bone_age_z\n"
        "170,1377,/x/1377.png,2011,180,0,1.1\n20,1402,,2012,24,0,-1\n130,1450,,2013,136.5,1,0\n"
    ),
}


def write_table(folder: Path, text: str) -> Path:
    path = folder / "labels.csv"
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_gives_the_same_labels(dialect: str, tmp_path: Path) -> None:
    assert read_labels(write_table(tmp_path, DIALECTS[dialect])) == LABELS


def test_columns_named_by_the_user_may_have_any_name(tmp_path: Path) -> None:
    table = "a,b,c,id\n1377,15,1,x\n1402,2,1,y\n1450,11.375,0,z\n"
    columns = LabelColumns(id_column="a", age_column="B", gender_column="c", gender_is="female", age_unit="years")
    assert read_labels(write_table(tmp_path, table), columns) == LABELS


def test_a_column_named_by_the_user_resolves_ambiguity(tmp_path: Path) -> None:
    table = "id,image id,boneage,age,male,sex\nx,1377,180,1,0,M\ny,1402,24,2,0,M\nz,1450,136.5,3,1,F\n"
    columns = LabelColumns(id_column="image id", age_column="boneage", gender_column="male")
    assert read_labels(write_table(tmp_path, table), columns) == LABELS


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        (LabelColumns(age_column="months"), "no column holds the age"),
        (LabelColumns(id_column="boneage", age_column="boneage"), "one column has two roles"),
        (LabelColumns(age_column="boneage", gender_is="female"), "--gender-is contradicts"),
        (LabelColumns(age_unit="months", age_column="age (years)"), "--age-unit contradicts"),
        (LabelColumns(), "2 columns could hold the age"),
    ],
)
def test_settings_that_contradict_the_table_are_refused(columns: LabelColumns, problem: str, tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=problem):
        read_labels(write_table(tmp_path, ",id,boneage,male,age (years)\n0,1377,180,0,15\n"), columns)


@pytest.mark.parametrize("settings", [{"gender_is": "boy"}, {"age_unit": "days"}])
def test_unknown_choices_in_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"--(gender-is|age-unit): unknown choice"):
        LabelColumns(**settings)


def test_gender_is_defines_the_flag_of_a_column_named_gender(tmp_path: Path) -> None:
    path = write_table(tmp_path, "id,boneage,gender\n1377,180,1\n1402,24,1\n1450,136.5,0\n")
    assert read_labels(path, LabelColumns(gender_is="female")) == LABELS


@pytest.mark.fault("A5")
def test_in_skip_mode_rows_with_bad_values_are_rejected_with_their_cause(tmp_path: Path) -> None:
    path = write_table(tmp_path, "id,boneage,male\n1,300,1\n2,12,maybe\n3,12,0\n4,,1\n")
    rejected: list[RejectedSample] = []
    assert read_labels(path, rejected=rejected) == [Label("3", "F", 12.0)]
    assert [(row.key, row.cause) for row in rejected] == [("1", "bad age"), ("2", "bad gender"), ("4", "bad age")]
    assert rejected[0].problem == f"{path.name}: line 2: id '1': the age is out of range: '300'"


@pytest.mark.fault("A4", "A6")
@pytest.mark.parametrize("row", ["1,12", "1,12,1\n1,13,1", "a b,12,1", '1,12,"1'])
def test_in_skip_mode_a_broken_table_is_still_an_error(row: str, tmp_path: Path) -> None:
    with pytest.raises(LabelError):
        read_labels(write_table(tmp_path, f"id,boneage,male\n0,12,1\n{row}\n"), rejected=[])


def test_ages_that_look_like_years_are_read_if_their_unit_is_given(tmp_path: Path) -> None:
    path = write_table(tmp_path, "id,boneage,male\n" + "".join(f"{n},{n},1\n" for n in range(1, 19)))
    with pytest.raises(LabelError, match="look like years"):
        read_labels(path)
    months = [label.age_months for label in read_labels(path, LabelColumns(age_unit="months"))]
    years = [label.age_months for label in read_labels(path, LabelColumns(age_unit="years"))]
    assert months == list(range(1, 19))
    assert years == [12 * age for age in months]


def test_one_wrong_row_does_not_hide_ages_in_years(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"ages 1 to 200; 39 of 40 are 20 or less"):
        read_labels(
            write_table(tmp_path, "id,boneage,male\n0,200,1\n" + "".join(f"{n},{1 + n % 18},1\n" for n in range(1, 40)))
        )


def test_a_few_infants_do_not_look_like_ages_in_years(tmp_path: Path) -> None:
    path = write_table(tmp_path, "id,boneage,male\n1,9,1\n2,10,0\n")
    assert [label.age_months for label in read_labels(path)] == [9, 10]


def test_the_limit_of_ages_in_years_is_20(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="a number from 0 to 20 years"):
        read_labels(write_table(tmp_path, "id,age years,sex\n7,180,F\n"))


@pytest.mark.fault("A5")
@given(
    age=st.floats() | st.sampled_from([-0.001, 240.001, 1e300]), text=st.text("0123456789.,-+eE ０１９naif", max_size=6)
)
def test_any_age_is_a_number_from_0_to_240_or_refused(
    age: float, text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("ages")
    for cell in (repr(age), text):
        path, rejected = write_table(folder, f'id,boneage,male\n7,"{cell}",1\n'), list[RejectedSample]()
        labels = read_labels(path, rejected=rejected)
        assert len(labels) + len(rejected) == 1
        assert all(0 <= label.age_months <= 240 and label.age_months == float(cell) for label in labels)
        assert all(bad.cause == "bad age" for bad in rejected)


@given(
    labels=st.lists(
        st.builds(Label, st.from_regex(KEY_PATTERN), st.sampled_from("FM"), st.floats(0, 240)),
        min_size=1,
        unique_by=lambda label: label.key,
    )
)
def test_labels_that_are_written_are_read_back(labels: list[Label], tmp_path_factory: pytest.TempPathFactory) -> None:
    rows = "".join(f"{label.key},{label.age_months!r},{label.gender == 'M'}\n" for label in labels)
    path = write_table(tmp_path_factory.mktemp("table"), "id,boneage,male\n" + rows)
    assert read_labels(path, LabelColumns(age_unit="months")) == labels


@pytest.mark.parametrize(
    "mapping",
    [
        {"gender": "F", "age_months": 180},
        {"gender": "F", "age_months": 180.0, "true_age_months": 171.2, "stages": {"radius": 7}},
        {"male": False, "boneage": 180},
        {"female": 1, "Bone Age (months)": "180"},
        {"male": "0", "age": "180"},
        {"Sex": "female", "age_years": 15},
        {"id": 7, "boneage": 180.0, "male": "False"},
    ],
)
def test_the_json_of_a_sample_is_read_in_every_dialect(mapping: dict[str, Any]) -> None:
    assert label_from_mapping("a/7", json.loads(json.dumps(mapping))) == Label("a/7", "F", 180.0)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({}, "sample '7': the label: no column holds the age.*no columns"),
        ({"age_months": 180}, "no column holds the gender.*got:      'age_months'"),
        ({"gender": "F", "age": 1, "age_months": 180}, "2 columns could hold the age"),
        ({"gender": 1, "age_months": 180}, "sample '7': the gender is not recognized.*got:      '1'"),
        ({"gender": True, "age_months": 180}, "the gender is not recognized.*got:      'True'"),
        ({"gender": None, "age_months": 180}, "the gender is missing"),
        ({"gender": "F", "age_months": None}, "the age is not a number"),
        ({"gender": "F", "age_months": True}, "the age is not a number"),
        ({"gender": "F", "age_months": float("inf")}, "the age is not a number"),
        ({"gender": "F", "age_months": [180]}, "the age is not a number"),
        ({"gender": "F", "age_months": 1e300}, "the age is out of range"),
        ({"gender": "F", "age_years": 180}, "the age is out of range"),
    ],
)
def test_incomplete_and_ambiguous_labels_are_refused(mapping: dict[str, Any], message: str) -> None:
    with pytest.raises(LabelError, match=f"(?s){message}"):
        label_from_mapping("7", mapping)


@given(
    mapping=st.dictionaries(
        st.sampled_from(["gender", "male", "age", "boneage", "x"]),
        st.none() | st.integers() | st.text("FMfm01.１ ", max_size=6),
    )
)
def test_any_mapping_gives_a_label_within_limits_or_a_label_error(mapping: dict[str, Any]) -> None:
    with contextlib.suppress(LabelError):
        label = label_from_mapping("7", mapping)
        assert label.gender in ("F", "M")
        assert 0 <= label.age_months <= 240


def test_equal_labels_have_equal_hashes() -> None:
    assert len({LABELS[0], replace(LABELS[0])}) == 1


def test_reading_labels_and_images_does_not_import_torch_or_optional_packages() -> None:
    modules = "wds_bone.labels.read, wds_bone.images.read, wds_bone.shards.encoding"
    program = (
        f"import sys, {modules}; sys.exit(int(any(name in sys.modules for name in ('torch', 'pydicom', 'openpyxl'))))"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0
