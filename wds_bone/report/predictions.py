"""Write predictions as CSV.

In: predictions in the order of the shards.
Out: `predictions.csv`, with one row per sample.
Invariant: the same predictions give the same bytes, every number reads back as the same float32, and no cell is a
formula for a spreadsheet.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from wds_bone.learn.validate import Predictions
from wds_bone.storage.durable import write_bytes_atomically

COLUMNS = ("key", "gender", "age_months", "predicted_months")
_MARK = "'"
_MARKED_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n", " ", _MARK)


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write `predictions` to `path`, atomically; the order is kept.

    Raises:
        WdsBoneError: if the file cannot be written.
    """
    genders = np.where(predictions.gender == 1, "M", "F").tolist()
    months = (map(months_text, column) for column in (predictions.age_months, predictions.predicted_months))
    rows = zip(map(plain_cell, predictions.key), genders, *months, strict=True)
    write_bytes_atomically(path, csv_text([COLUMNS, *rows]).encode())


def csv_text(rows: Iterable[Sequence[str]]) -> str:
    """Return rows of cells as CSV (RFC 4180, except that lines end with a line feed only)."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def plain_cell(text: str) -> str:
    """Return `text` with an apostrophe before anything that a spreadsheet could take for a formula.

    The rule is OWASP's ("CSV Injection"). A leading apostrophe or space gets one as well, so that the first apostrophe
    of a cell can always be removed again.
    """
    return _MARK + text if text.startswith(_MARKED_STARTS) else text


def months_text(months: np.floating) -> str:
    """Return the shortest decimal number that reads back as the same float32."""
    return np.format_float_positional(np.float32(months), trim="-")
