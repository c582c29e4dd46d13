import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.report.reading import read_predictions
from wds_bone.inference.predictions import Predictions, escape_formula, write_predictions

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


def columns_of(predictions: Predictions) -> tuple[list[object], ...]:
    columns = (predictions.gender, predictions.age_months, predictions.predicted_months)
    return (list(predictions.key), *(column.tolist() for column in columns))


def test_the_table_has_exactly_these_bytes(tmp_path: Path) -> None:
    write_predictions(tmp_path / "p.csv", predictions_of(["4360", "a_b-c"], [94.5, -3.25]))
    assert (tmp_path / "p.csv").read_bytes() == (
        b"key,gender,age_months,predicted_months\n4360,F,0,94.5\na_b-c,M,7.5,-3.25\n"
    )


@given(keys=st.lists(st.text(min_size=1).filter(str.isprintable), min_size=1, max_size=5), months=MONTHS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_reading_the_table_returns_exactly_what_was_written(tmp_path: Path, keys: list[str], months: float) -> None:
    written = predictions_of(keys, [months] * len(keys))
    write_predictions(tmp_path / "p.csv", written)
    assert columns_of(read_predictions(tmp_path / "p.csv")) == columns_of(written)


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
