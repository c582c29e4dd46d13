"""Hold the predictions for a set of samples, check them, and write and read them as CSV.

In: predictions in the order of the samples, or a `predictions.csv`.
Out: `predictions.csv`, with one row per sample, or the predictions in it.
Invariant: the same predictions give the same bytes, every number reads back as the same float32, and no
spreadsheet takes a cell for a formula.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wds_bone.errors import WdsBoneError
from wds_bone.storage.durable import write_bytes_atomically

PREDICTIONS_NAME = "predictions.csv"
COLUMNS = ("key", "gender", "age_months", "predicted_months")
INTERVAL_COLUMNS = ("low_months", "high_months")
"""The columns after the others, if the predictions have intervals."""
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")
_LARGEST = float(np.finfo(np.float32).max)
_ESCAPE = "'"
_ESCAPED_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n", " ", _ESCAPE)


@dataclass(frozen=True)
class Predictions:
    """The prediction for each sample, in the order of the samples.

    Attributes:
        key: n sample keys.
        gender: float32 (n,), 1 male and 0 female.
        age_months: float32 (n,), the labels.
        predicted_months: float32 (n,).
        interval_months: float32 (n, 2), the lower and the upper limit of each prediction; None without calibration.
    """

    key: list[str]
    gender: NDArray[np.float32]
    age_months: NDArray[np.float32]
    predicted_months: NDArray[np.float32]
    interval_months: NDArray[np.float32] | None = None


def refuse_not_finite(predicted_months: NDArray[np.float32], keys: Sequence[str], *, where: str) -> None:
    """Check that all predictions are finite numbers.

    Args:
        predicted_months: float32 (n,).
        keys: the names of the n samples or films.
        where: location for the error message.

    Raises:
        WdsBoneError: if one is not; the error names the first one.
    """
    finite = np.isfinite(predicted_months)
    if finite.all():
        return
    num_bad, first = int(np.sum(~finite)), int(np.argmin(finite))
    found = f"the prediction for '{keys[first]}' is not finite"
    if num_bad > 1:
        found = f"{num_bad:,} predictions are not finite, the first for '{keys[first]}'"
    raise WdsBoneError(
        f"{where}: {found}",
        expected="ages in months",
        got=predicted_months[first],
        do="look at that image; if it is like the others, use an earlier checkpoint, or train again with a lower --lr "
        "and another --out",
    )


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write `predictions` to `path`, atomically; the order is kept.

    Raises:
        WdsBoneError: if the file cannot be written.
    """
    interval = predictions.interval_months
    header, limits = (COLUMNS, ()) if interval is None else (COLUMNS + INTERVAL_COLUMNS, tuple(interval.T))
    genders = np.where(predictions.gender == 1, "M", "F").tolist()
    months = (map(format_months, column) for column in (predictions.age_months, predictions.predicted_months, *limits))
    rows = zip(map(escape_formula, predictions.key), genders, *months, strict=True)
    write_bytes_atomically(path, format_csv([header, *rows]).encode())


def read_predictions(path: Path) -> Predictions:
    """Read a table that `write_predictions` wrote; the order is kept, and every number is the same float32.

    Raises:
        WdsBoneError: if the file cannot be read or has other columns or no rows, if a row is malformed, or if a key is
            repeated; the error names the row, of which the header is the first.
    """
    header, *rows = _read_rows(path)
    if tuple(header) not in (COLUMNS, COLUMNS + INTERVAL_COLUMNS):
        expected = f"{','.join(COLUMNS)}, perhaps with {','.join(INTERVAL_COLUMNS)}"
        raise _table_error(f"{path}: has other columns", expected=expected, got=",".join(header))
    samples = [
        _parse_row(cells, header, where=f"{path}: row {number}") for number, cells in enumerate(rows, 2) if cells
    ]
    if not samples:
        raise _table_error(f"{path}: has no rows", expected="one row per sample", got="only a header")
    keys = [key for key, _ in samples]
    _refuse_repeated(keys, where=str(path))
    gender, age_months, predicted_months, *limits = np.array([numbers for _, numbers in samples], np.float32).T.copy()
    return Predictions(keys, gender, age_months, predicted_months, np.stack(limits, 1) if limits else None)


def format_csv(rows: Iterable[Sequence[str]]) -> str:
    """Return rows of cells as CSV (RFC 4180, except that lines end with a line feed only)."""
    text = io.StringIO(newline="")
    plain = csv.writer(text, lineterminator="\n")
    quoting = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in rows:
        # Before Python 3.13, a carriage return is not quoted by default, although it ends a row for many readers.
        (quoting if any("\r" in cell for cell in row) else plain).writerow(row)
    return text.getvalue()


def escape_formula(text: str) -> str:
    """Return `text`, with an apostrophe in front if a spreadsheet could take it for a formula.

    The rule is OWASP's ("CSV Injection"). Text that starts with an apostrophe or a space gets one as well, so that a
    reader can always remove the first apostrophe of a cell.
    """
    return _ESCAPE + text if text.startswith(_ESCAPED_STARTS) else text


def format_months(months: np.floating) -> str:
    """Return the shortest decimal number that reads back as the same float32."""
    return np.format_float_positional(np.float32(months), trim="-")


def _read_rows(path: Path) -> list[list[str]]:
    """Return the cells of each row of a CSV file, at least of one."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        return list(csv.reader(io.StringIO(text, newline=""), strict=True)) or [[]]
    except OSError as error:
        raise WdsBoneError(f"{path}: cannot be read: {error.strerror}", do="check the path") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise _table_error(f"{path}: is not a table", expected="CSV in UTF-8", got=str(error)) from error


def _parse_row(cells: Sequence[str], header: Sequence[str], *, where: str) -> tuple[str, list[float]]:
    """Return the key of a row and its numbers, in the order of the columns; the gender is 1 for M and 0 for F."""
    if len(cells) != len(header):
        raise _table_error(f"{where}: is incomplete", expected=f"{len(header)} cells", got=str(len(cells)))
    key, gender, *months = cells
    if not key:
        raise _table_error(f"{where}: has no key", expected="the key of a sample", got="an empty cell")
    if gender not in ("F", "M"):
        raise _table_error(f"{where}: has no gender", expected="F or M", got=repr(gender))
    named = zip(header[2:], months, strict=True)
    return key.removeprefix(_ESCAPE), [float(gender == "M"), *(_parse_months(*pair, where=where) for pair in named)]


def _parse_months(column: str, text: str, *, where: str) -> float:
    """Return a number that is finite as a float32."""
    if not _NUMBER.fullmatch(text) or abs(number := float(text)) > _LARGEST:
        raise _table_error(f"{where}: {column} is not a number", expected="months, such as 94.5", got=repr(text))
    return number


def _refuse_repeated(keys: Sequence[str], *, where: str) -> None:
    key, num_rows = Counter(keys).most_common(1)[0]
    if num_rows > 1:
        raise _table_error(
            f"{where}: a key is repeated", expected="one row per key", got=f"{num_rows} rows for {key!r}"
        )


def _table_error(problem: str, *, expected: str, got: str) -> WdsBoneError:
    return WdsBoneError(
        problem, expected=expected, got=got, do="use the table as `wds-bone train` or `wds-bone evaluate` wrote it"
    )
