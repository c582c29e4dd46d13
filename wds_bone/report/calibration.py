"""Describe a calibration, and warn if it is based on few samples, or on those that are evaluated.

In: a calibration; a calibrated checkpoint and predictions.
Out: text for a terminal.
Invariant: every number in the text is in the calibration, or follows from the number of samples.
"""

import math
from collections.abc import Iterator
from typing import Any

from wds_bone.inference.calibration import Calibration, conformal_rank
from wds_bone.inference.predictions import Predictions
from wds_bone.inference.trained_on import find_samples
from wds_bone.labels.values import GENDER_NAMES

FEW_FOR_A_LINE = 100
"""With errors of 10 months, the correction from so many samples has a standard error of 1 month."""


def format_calibration(calibration: Calibration) -> str:
    """Return a line for each gender, one for its correction, and what the numbers mean."""
    return "\n".join(
        [
            *_calibration_lines(calibration),
            f"Level {calibration.level:.10g}. Coverage: the share of further ages within such intervals, as mean and "
            "two standard deviations",
            "over calibrations with as many samples.",
        ]
    )


def expected_coverage(num_samples: int, *, level: float) -> tuple[float, float]:
    """Return the mean and the standard deviation of the coverage over calibrations with so many samples.

    The coverage has a beta distribution (Vovk, Conditional validity of inductive conformal predictors, 2012).
    """
    inside = conformal_rank(num_samples, level=level)
    mean = inside / (num_samples + 1)
    return mean, math.sqrt(mean * (1 - mean) / (num_samples + 2))


def few_samples_warnings(calibration: Calibration) -> Iterator[str]:
    """Yield a warning for each gender whose predictions are corrected on the basis of few samples."""
    for gender, fitted in calibration.genders.items():
        if calibration.corrects and fitted.num_samples < FEW_FOR_A_LINE:
            yield (
                f"warning: the correction for {GENDER_NAMES[gender]} is based on {fitted.num_samples} samples; its "
                f"standard error is {fitted.standard_error_months:.1f} months for an average prediction and larger for "
                f"others; use at least {FEW_FOR_A_LINE} samples of each gender, or leave out --correct"
            )


def calibrated_on_warning(contents: dict[str, Any], predictions: Predictions, *, where: str) -> str | None:
    """Return a warning if the checkpoint was calibrated on some of the samples, and that affects what is measured.

    The coverage is measured if there are intervals, which an ensemble has only if all of its checkpoints are
    calibrated. The errors are affected if the calibration corrects the predictions.

    Args:
        contents: the contents of the checkpoint.
        predictions: the predictions for the samples.
        where: how the text names the checkpoint.
    """
    described, calibration = contents.get("calibrated_on"), contents["calibration"]
    affected = ["their errors"] if calibration and calibration["corrects"] else []
    affected += ["the coverage of their intervals"] if predictions.interval_months is not None else []
    if described is None or not affected:
        return None
    found = find_samples(described, predictions.key, predictions.gender, predictions.age_months)
    if not found.any():
        return None
    first = predictions.key[int(found.argmax())]
    return (
        f"warning: {found.sum():,} of the {len(found):,} samples (the first is '{first}') have the key, gender and age "
        f"of a sample that {where} was calibrated on; if they are the same films, {' and '.join(affected)} cannot be "
        "expected of other films"
    )


def _calibration_lines(calibration: Calibration) -> Iterator[str]:
    for gender, fitted in calibration.genders.items():
        mean, deviation = expected_coverage(fitted.num_samples, level=calibration.level)
        yield (
            f"{GENDER_NAMES[gender]:5}  prediction +/- {fitted.half_width_months:.1f} months, from "
            f"{fitted.num_samples:,} samples; coverage {mean:.1%} +/- {2 * deviation:.1%}"
        )
        if calibration.corrects:
            sign = "+" if fitted.intercept_months >= 0 else "-"
            yield (
                f"{'':5}  corrected to {fitted.slope:.3f} x prediction {sign} {abs(fitted.intercept_months):.1f} "
                f"months; standard error {fitted.standard_error_months:.1f}"
            )
