import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wds_bone.errors import WdsBoneError
from wds_bone.inference.predictions import Predictions, escape_formula, read_predictions, write_predictions

FORMULAS = (
    "=1+1",
    "+1",
    "-1+1",
    "@SUM(A1)",
    "=cmd|' /C calc'!A0",
    "＝1",
    "\tx",
    " =1+1",
    "'=1",
    "'",
    "<script>alert(1)</script>",
)
MONTHS = st.floats(-50, 300, width=32)


def predictions_of(keys: list[str], predicted: list[float] | None = None) -> Predictions:
    count = len(keys)
    columns = (np.arange(count) % 2, np.arange(count) * 7.5, predicted or [10.1] * count)
    return Predictions(keys, *(np.array(column, np.float32) for column in columns))


def columns_of(predictions: Predictions) -> tuple[object, ...]:
    columns = (predictions.gender, predictions.age_months, predictions.predicted_months)
    interval = predictions.interval_months
    return (
        list(predictions.key),
        [column.tolist() for column in columns],
        None if interval is None else interval.tolist(),
    )


def test_the_table_has_exactly_these_bytes(tmp_path: Path) -> None:
    write_predictions(tmp_path / "p.csv", predictions_of(["4360", "a_b-c"], [94.5, -3.25]))
    assert (tmp_path / "p.csv").read_bytes() == (
        b"key,gender,age_months,predicted_months\n4360,F,0,94.5\na_b-c,M,7.5,-3.25\n"
    )


@given(keys=st.lists(st.text(min_size=1).filter(str.isprintable), min_size=1, max_size=5, unique=True), months=MONTHS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_reading_the_table_returns_exactly_what_was_written(tmp_path: Path, keys: list[str], months: float) -> None:
    written = predictions_of(keys, [months] * len(keys))
    write_predictions(tmp_path / "p.csv", written)
    assert columns_of(read_predictions(tmp_path / "p.csv")) == columns_of(written)


def test_intervals_are_two_more_columns(tmp_path: Path) -> None:
    plain = predictions_of(["a", "b"], [94.5, 10.1])
    interval = np.array([[80.25, 101.3], [-0.1, 30]], np.float32)
    written = replace(plain, interval_months=interval)
    write_predictions(tmp_path / "p.csv", written)
    lines = (tmp_path / "p.csv").read_text().splitlines()
    assert lines == [
        "key,gender,age_months,predicted_months,low_months,high_months",
        "a,F,0,94.5,80.25,101.3",
        "b,M,7.5,10.1,-0.1,30",
    ]
    assert columns_of(read_predictions(tmp_path / "p.csv")) == columns_of(written)


def test_a_table_that_a_spreadsheet_saved_again_is_read(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_bytes(
        b'\xef\xbb\xbfkey,gender,age_months,predicted_months\r\n"\'-1",F,94,1.205E+2\r\n\r\n'
    )
    assert columns_of(read_predictions(tmp_path / "p.csv")) == (["-1"], [[0.0], [94.0], [120.5]], None)


HEADER = b"key,gender,age_months,predicted_months\n"


@pytest.mark.parametrize(
    ("table", "problem", "got"),
    [
        (b"", "has other columns", "  got:      \n"),
        (b"key,age\na,1\n", "has other columns", "key,age"),
        (HEADER, "has no rows", "only a header"),
        (HEADER + b"a,F,94,95\nb,M,94\n", "row 3: is incomplete", "3"),
        (HEADER + b"a,F,94,95\n\nb,M,94,95,96\n", "row 4: is incomplete", "5"),
        (HEADER + b",F,94,95\n", "row 2: has no key", "an empty cell"),
        (HEADER + b"a,female,94,95\n", "row 2: has no gender", "'female'"),
        (HEADER + b"a,F,94,nan\n", "row 2: predicted_months is not a number", "'nan'"),
        (HEADER + b"a,F,9_4,95\n", "row 2: age_months is not a number", "'9_4'"),
        (HEADER + b"a,F,94,1e39\n", "row 2: predicted_months is not a number", "'1e39'"),
        (HEADER + b"a,F,94,95\nb,F,1,2\na,M,3,4\n", "a key is repeated", "2 rows for 'a'"),
        (HEADER + b'a,F,94,"95\n', "is not a table", "unexpected end of data"),
        (HEADER + b"\xff,F,94,95\n", "is not a table", "invalid start byte"),
    ],
)
def test_a_malformed_table_is_refused_with_its_row(tmp_path: Path, table: bytes, problem: str, got: str) -> None:
    (tmp_path / "p.csv").write_bytes(table)
    with pytest.raises(WdsBoneError) as caught:
        read_predictions(tmp_path / "p.csv")
    assert caught.value.problem == f"{tmp_path / 'p.csv'}: {problem}"
    assert got in str(caught.value)


def test_a_missing_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WdsBoneError, match="No such file"):
        read_predictions(tmp_path / "p.csv")


@pytest.mark.fault("H2")
def test_no_cell_can_be_taken_for_a_formula(tmp_path: Path) -> None:
    write_predictions(tmp_path / "p.csv", predictions_of(list(FORMULAS), [-1.5] * len(FORMULAS)))
    with (tmp_path / "p.csv").open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    assert len(rows) == len(FORMULAS)
    for key, gender, age, predicted in rows:
        assert key.lstrip()[0] not in "=+-@＝＋－＠"
        assert key[0] not in "\t\r\n "
        assert gender in ("F", "M")
        assert np.isfinite([float(age), float(predicted)]).all()
    assert read_predictions(tmp_path / "p.csv").key == list(FORMULAS)


@pytest.mark.fault("H2")
@given(text=st.text())
def test_the_apostrophe_can_always_be_removed_again(text: str) -> None:
    assert escape_formula(text).removeprefix("'") == text
