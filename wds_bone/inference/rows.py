"""Write the prediction for each film as a row of CSV or JSON Lines.

In: a film, its age in months, and the interval of the age.
Out: lines of text, the first of which is the header of a CSV.
Invariant: every number reads back as the same float32, and no spreadsheet takes a cell of the CSV for a formula.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from wds_bone.inference.inputs import Input
from wds_bone.inference.predictions import escape_formula, format_csv, format_months

RowFormat = Literal["csv", "jsonl"]
COLUMNS = (
    *("file", "key", "gender", "predicted_months", "predicted_age", "low_months", "high_months"),
    "checkpoint_sha256",
)


@dataclass(frozen=True, slots=True)
class PredictedFilm:
    """A film, its predicted age in months, and the limits of its interval (None without calibration).

    `checkpoint_sha256` is the sha256 of the checkpoint file; of several, with a + between them.
    """

    film: Input
    months: np.float32
    interval: tuple[np.float32, np.float32] | None
    checkpoint_sha256: str


def row_lines(predicted: Iterable[PredictedFilm], row_format: RowFormat) -> Iterator[str]:
    """Yield the lines of a table with the columns `COLUMNS`, with their ends, as soon as each is known.

    Without calibration, the limits are empty cells in CSV and null in JSON.
    """
    if row_format == "csv":
        yield format_csv([COLUMNS])
    for prediction in predicted:
        values = _values(prediction)
        if row_format == "csv":
            yield format_csv([[_cell(value) for value in values]])
        else:
            yield json.dumps(dict(zip(COLUMNS, map(_json_value, values), strict=True))) + "\n"


def format_age(months: np.float32) -> str:
    """Return an age such as "12 y 4 m", rounded to months; a minus stands before an age below zero."""
    rounded = round(float(months))
    years, rest = divmod(abs(rounded), 12)
    return f"{'-' if rounded < 0 else ''}{years} y {rest} m"


def _values(predicted: PredictedFilm) -> list[str | np.float32 | None]:
    film, (low, high) = predicted.film, predicted.interval or (None, None)
    age = format_age(predicted.months)
    return [
        *(str(film.path), film.key, film.gender),
        *(predicted.months, age, low, high),
        predicted.checkpoint_sha256,
    ]


def _cell(value: str | np.float32 | None) -> str:
    if isinstance(value, str):
        return escape_formula(value)
    return "" if value is None else format_months(value)


def _json_value(value: str | np.float32 | None) -> Any:
    return float(format_months(value)) if isinstance(value, np.float32) else value
