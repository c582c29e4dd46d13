"""Compare the errors of two evaluations of the same samples.

In: the predictions of both, in any order; those of the other one are read from its folder.
Out: a dictionary in plain JSON types.
Invariant: samples are joined by key, and those of only one evaluation are counted; exchanging the two changes only the
sign of the difference.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wds_bone.errors import WdsBoneError
from wds_bone.inference.bootstrap import bootstrap_interval
from wds_bone.inference.predictions import PREDICTIONS_NAME, Predictions, read_predictions
from wds_bone.learn.metrics import absolute_errors
from wds_bone.report.agreement import MIN_INTERVAL_SAMPLES

LABEL_TOLERANCE_MONTHS = 0.1
"""Ages in years with two decimals are rounded by up to 0.06 months."""


@dataclass(frozen=True)
class OtherEvaluation:
    """An evaluation to compare with.

    Attributes:
        predictions: its predictions.
        sha256: the sha256 of its `predictions.csv`.
    """

    predictions: Predictions
    sha256: str


def read_other_evaluation(folder: Path) -> OtherEvaluation:
    """Return the evaluation in a folder.

    Raises:
        WdsBoneError: if its predictions cannot be read.
    """
    path = folder / PREDICTIONS_NAME
    return OtherEvaluation(read_predictions(path), hashlib.sha256(path.read_bytes()).hexdigest())


def compare(ours: Predictions, theirs: Predictions) -> dict[str, Any]:
    """Return the difference of the mean absolute errors of two evaluations over the samples that both contain.

    The interval is that of a paired bootstrap: samples are drawn with both of their predictions, so that what makes a
    film difficult for both models cancels out. An interval that does not contain 0 is a difference that other samples
    of the same kind would probably show too.

    Returns:
        `num_samples`: the samples in both; `num_only_here` and `num_only_there`: those in one.
        `mae_months` and `against_mae_months`: of `ours` and `theirs` over the samples in both.
        `mae_difference_months`: ours minus theirs, so that a negative number is in favor of ours.
        `mae_difference_interval_months`: its 95 % interval, None for fewer than 5 samples.

    Raises:
        WdsBoneError: if no sample is in both, or their true ages differ.
    """
    rows, their_rows = (_rows_by_key(predictions) for predictions in (ours, theirs))
    shared = sorted(rows.keys() & their_rows.keys())
    if not shared:
        raise WdsBoneError(
            "the two evaluations have no sample in common",
            expected=f"keys such as '{ours.key[0]}' in both",
            got=f"keys such as '{theirs.key[0]}' in the other one",
            do="compare evaluations of the same samples",
        )
    here, there = [rows[key] for key in shared], [their_rows[key] for key in shared]
    _refuse_other_labels(ours, theirs, here=here, there=there)
    errors = absolute_errors(ours.predicted_months[here], ours.age_months[here])
    their_errors = absolute_errors(theirs.predicted_months[there], theirs.age_months[there])
    differences = errors - their_errors
    enough = len(shared) >= MIN_INTERVAL_SAMPLES
    return {
        "num_samples": len(shared),
        "num_only_here": len(rows) - len(shared),
        "num_only_there": len(their_rows) - len(shared),
        "mae_months": float(errors.mean()),
        "against_mae_months": float(their_errors.mean()),
        "mae_difference_months": float(differences.mean()),
        "mae_difference_interval_months": list(bootstrap_interval(differences)) if enough else None,
    }


def _rows_by_key(predictions: Predictions) -> dict[str, int]:
    return {key: row for row, key in enumerate(predictions.key)}


def _refuse_other_labels(ours: Predictions, theirs: Predictions, *, here: list[int], there: list[int]) -> None:
    """Refuse true ages that differ: the difference of the errors would be one of the labels, not of the models."""
    gaps = np.abs(ours.age_months[here] - theirs.age_months[there])
    num_bad, worst = int(np.sum(gaps > LABEL_TOLERANCE_MONTHS)), int(np.argmax(gaps))
    if num_bad:
        others = f" and {num_bad - 1:,} more" if num_bad > 1 else ""
        raise WdsBoneError(
            f"the two evaluations have different true ages for '{ours.key[here[worst]]}'{others}",
            expected=f"{ours.age_months[here[worst]]:g} months in both",
            got=f"{theirs.age_months[there[worst]]:g} months in the other one",
            do="evaluate both with the same label table",
        )
