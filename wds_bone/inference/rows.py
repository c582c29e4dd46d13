"""Write the prediction for each film as a row of CSV or JSON Lines, and list the films that failed.

In: a film, its age in months, and the interval of the age; errors.
Out: lines of text, the first of which is the header of a CSV; a file of JSON Lines.
Invariant: every number reads back as the same float32, and no spreadsheet takes a cell of the CSV for a formula.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from wds_bone.errors import WdsBoneError
from wds_bone.inference.inputs import Input
from wds_bone.inference.predictions import escape_formula, format_csv, format_months
from wds_bone.storage.durable import storage_errors, write_bytes_atomically

RowFormat = Literal["csv", "jsonl"]
COLUMNS = (
    *("file", "key", "gender", "predicted_months", "predicted_age", "low_months", "high_months"),
    "checkpoint_sha256",
)
FAILED_NAME = "failed.jsonl"
"""The list of the films and rows that failed: in the folder of results, or as a suffix of the name of a result."""
ERROR_PARTS = ("problem", "expected", "got", "do")


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


def write_failures(path: Path, errors: Sequence[WdsBoneError]) -> str:
    """Write a list of all films and rows that failed, as JSON Lines; or remove that of an earlier run if none failed.

    Returns:
        Where they are listed, as the rest of a sentence; "" if none failed.

    Raises:
        WdsBoneError: if the file cannot be written or removed.
    """
    if not errors:
        with storage_errors(path):
            path.unlink(missing_ok=True)
        return ""
    lines = (json.dumps({name: _text(getattr(error, name)) for name in ERROR_PARTS}) + "\n" for error in errors)
    write_bytes_atomically(path, "".join(lines).encode())
    return f", listed in {path}"


def format_age(months: np.float32) -> str:
    """Return an age such as "12 y 4 m", rounded to months; a minus stands before an age below zero."""
    rounded = round(float(months))
    years, rest = divmod(abs(rounded), 12)
    return f"{'-' if rounded < 0 else ''}{years} y {rest} m"


def _text(part: object) -> str | None:
    return None if part is None else str(part)


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
