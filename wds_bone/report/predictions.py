"""Write predictions as CSV.

In: predictions in the order of the shards.
Out: `predictions.csv`, with one row per sample.
Invariant: the same predictions give the same bytes, every number reads back as the same float32, and no
spreadsheet takes a cell for a formula.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from wds_bone.learn.validate import Predictions
from wds_bone.storage.durable import write_bytes_atomically

COLUMNS = ("key", "gender", "age_months", "predicted_months")
_ESCAPE = "'"
_ESCAPED_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n", " ", _ESCAPE)


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
    csv.writer(text, lineterminator="\n").writerows(rows)
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
