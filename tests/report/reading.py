"""Read `predictions.csv` as a user of the table would."""

import csv
from pathlib import Path

import numpy as np

from wds_bone.inference.predictions import Predictions


def read_predictions(path: Path) -> Predictions:
    """Return the predictions in a table; the apostrophe before a key that could be a formula is removed."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = [[float(row["gender"] == "M") for row in rows]]
    columns += [[float(row[name]) for row in rows] for name in ("age_months", "predicted_months")]
    keys = [row["key"].removeprefix("'") for row in rows]
    return Predictions(keys, *(np.array(column, np.float32) for column in columns))
