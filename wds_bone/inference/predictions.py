"""Hold the predictions for a set of samples, check them, and write them as CSV.

In: predictions in the order of the shards.
Out: `predictions.csv`, with one row per sample.
Invariant: the same predictions give the same bytes, every number reads back as the same float32, and no
spreadsheet takes a cell for a formula.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wds_bone.errors import WdsBoneError
from wds_bone.storage.durable import write_bytes_atomically

COLUMNS = ("key", "gender", "age_months", "predicted_months")
_ESCAPE = "'"
_ESCAPED_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n", " ", _ESCAPE)


@dataclass(frozen=True)
class Predictions:
    """The prediction for each sample, in the order of the stream.

    Attributes:
        key: n sample keys.
        gender: float32 (n,), 1 male and 0 female.
        age_months: float32 (n,), the labels.
        predicted_months: float32 (n,).
    """

    key: list[str]
    gender: NDArray[np.float32]
    age_months: NDArray[np.float32]
    predicted_months: NDArray[np.float32]


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
    genders = np.where(predictions.gender == 1, "M", "F").tolist()
    months = (map(format_months, column) for column in (predictions.age_months, predictions.predicted_months))
    rows = zip(map(escape_formula, predictions.key), genders, *months, strict=True)
    write_bytes_atomically(path, format_csv([COLUMNS, *rows]).encode())


def format_csv(rows: Iterable[Sequence[str]]) -> str:
    """Return rows of cells as CSV (RFC 4180, except that lines end with a line feed only)."""
    text = io.StringIO(newline="")
    for row in rows:
        # Before Python 3.13, a carriage return is not quoted by default, although it ends a row for many readers.
        quoting = csv.QUOTE_ALL if any("\r" in cell for cell in row) else csv.QUOTE_MINIMAL
        csv.writer(text, lineterminator="\n", quoting=quoting).writerow(row)
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
