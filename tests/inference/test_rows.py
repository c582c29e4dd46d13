"""Test `row_lines`: what is written reads back as it was, in both formats."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wds_bone.inference.inputs import Input
from wds_bone.inference.rows import COLUMNS, PredictedFilm, format_age, row_lines

months = st.floats(width=32, allow_nan=False, allow_infinity=False).map(np.float32)


def predicted(
    name: str = "ward/7.png", number: float = 148.3, interval: tuple[np.float32, np.float32] | None = None
) -> PredictedFilm:
    return PredictedFilm(Input(Path(name), "7", "F"), np.float32(number), interval, "ab+cd")


def csv_rows(*films: PredictedFilm) -> list[list[str]]:
    return list(csv.reader(io.StringIO("".join(row_lines(films, "csv")), newline="")))


def test_the_table_has_the_documented_columns() -> None:
    assert COLUMNS == (
        "file", "key", "gender", "predicted_months", "predicted_age", "low_months", "high_months", "checkpoint_sha256",
    )  # fmt: skip
    limits = np.float32(130.5), np.float32(166)
    assert csv_rows(predicted(), predicted(interval=limits)) == [
        [*COLUMNS],
        ["ward/7.png", "7", "F", "148.3", "12 y 4 m", "", "", "ab+cd"],
        ["ward/7.png", "7", "F", "148.3", "12 y 4 m", "130.5", "166", "ab+cd"],
    ]


def test_the_lines_of_json_have_the_same_columns_in_the_same_order() -> None:
    lines = list(row_lines([predicted(), predicted(interval=(np.float32(0), np.float32(9)))], "jsonl"))
    assert [list(json.loads(line)) for line in lines] == [[*COLUMNS], [*COLUMNS]]
    first, second = map(json.loads, lines)
    assert (first["predicted_months"], first["low_months"], first["high_months"]) == (148.3, None, None)
    assert (second["low_months"], second["high_months"]) == (0, 9)


@given(number=months, low=months, high=months)
def test_months_read_back_as_the_same_float32(number: np.float32, low: np.float32, high: np.float32) -> None:
    film = predicted(number=number, interval=(low, high))
    cells = dict(zip(COLUMNS, csv_rows(film)[1], strict=True))
    (line,) = row_lines([film], "jsonl")
    for name, value in (("predicted_months", number), ("low_months", low), ("high_months", high)):
        assert np.float32(cells[name]) == np.float32(json.loads(line)[name]) == value


@given(name=st.text(st.characters(exclude_characters="/\0", exclude_categories=[]), min_size=1))
def test_any_name_of_a_film_is_one_cell_and_no_formula(name: str) -> None:
    film = predicted(name=name)
    text = "".join(row_lines([film], "csv")).encode(errors="backslashreplace").decode()
    _, row = csv.reader(io.StringIO(text, newline=""))
    assert len(row) == len(COLUMNS)
    assert not row[0].startswith(("=", "+", "-", "@"))
    (line,) = row_lines([film], "jsonl")
    assert json.loads(line)["file"] == str(film.film.path)
    assert line.count("\n") == 1


@pytest.mark.parametrize(
    ("number", "age"),
    [(0, "0 y 0 m"), (11.4, "0 y 11 m"), (11.6, "1 y 0 m"), (148.3, "12 y 4 m"), (228, "19 y 0 m"), (-13, "-1 y 1 m")],
)
def test_an_age_is_rounded_to_months(number: float, age: str) -> None:
    assert format_age(np.float32(number)) == age


def test_lines_are_written_as_soon_as_their_film_is_predicted() -> None:
    taken: list[int] = []

    def films():  # type: ignore[no-untyped-def]
        for number in range(3):
            taken.append(number)
            yield predicted()

    lines = row_lines(films(), "csv")
    next(lines)
    assert taken == []
    next(lines)
    assert taken == [0]
