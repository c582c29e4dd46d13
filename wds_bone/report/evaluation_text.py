"""Describe an evaluation for a terminal.

In: the contents of `metrics.json`.
Out: text of at most 120 columns.
Invariant: every number in the text is in `metrics.json`, or follows from numbers there.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from wds_bone.inference.rows import FAILED_NAME
from wds_bone.labels.values import GENDER_NAMES
from wds_bone.report.metrics import format_interval
from wds_bone.report.table import format_summary


def format_evaluation(metrics: dict[str, Any]) -> str:
    """Return the table of errors, and below it what else was measured."""
    return "\n".join([format_summary(metrics["errors"], metrics), *_remarks(metrics)])


def _remarks(metrics: dict[str, Any]) -> Iterator[str]:
    if "runs" in metrics:
        yield from ("", *_folds_lines(metrics["runs"]))
    if "coverage" in metrics:
        yield from ("", *_coverage_lines(metrics["coverage"], metrics["checkpoints"]))
    if "against" in metrics:
        yield from ("", *_against_lines(metrics["against"]))
    if metrics["gender_input"] != "true":
        yield f"The model was given {metrics['gender_input']} genders; girls and boys are the true ones."
    if "films" in metrics:
        yield from _films_lines(metrics["films"])


def _folds_lines(runs: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the errors of the folds, and the epochs of their models, which show a run that has not ended."""
    errors = [run["mae_months"] for run in runs]
    shown = ", ".join(f"{error:.2f}" for error in errors)
    mean, deviation = np.mean(errors), np.std(errors, ddof=1)
    yield f"MAE of the {len(runs)} folds: {shown}; mean {mean:.2f}, standard deviation {deviation:.2f}"
    epochs = ", ".join(str(run["progress"]["best_epoch"]) for run in runs)
    yield f"  (their models are from epochs {epochs} of {runs[0]['config']['epochs']})"


def _coverage_lines(numbers: dict[str, Any], checkpoints: list[dict[str, Any]]) -> Iterator[str]:
    """Yield how often the intervals contain the true age, for all samples and per gender."""
    levels = sorted({checkpoint["calibration"]["level"] for checkpoint in checkpoints})
    shown = " and ".join(f"{level:.10g}" for level in levels)
    yield f"Coverage (the share of true ages within intervals of level {shown}), with 95 % intervals:"
    genders = {GENDER_NAMES[gender]: group for gender, group in numbers["gender"].items()}
    for name, group in {"all": numbers["all"], **genders}.items():
        low, high = group["coverage_interval"]
        yield (
            f"  {name:5}  {group['coverage']:.1%} ({low:.1%} to {high:.1%}) of {group['num_samples']:,}, "
            f"mean width {group['mean_width_months']:.1f} months"
        )
    if len(checkpoints) > 1:
        yield "  (limits are the means of those of the checkpoints, which are usually too wide for an ensemble)"


def _against_lines(numbers: dict[str, Any]) -> Iterator[str]:
    """Yield the comparison with another evaluation."""
    interval = format_interval(numbers["mae_difference_interval_months"], decimals=2)
    counts = [numbers[name] for name in ("num_samples", "num_only_here", "num_only_there")]
    yield (
        f"Against the other evaluation: MAE {numbers['mae_months']:.2f} here and {numbers['against_mae_months']:.2f} "
        f"there, difference {numbers['mae_difference_months']:+.2f}"
    )
    both, here, there = (f"{count:,}" for count in counts)
    yield f"  (95 % interval {interval}; paired, {both} samples in both, {here} only here, {there} only there)"


def _films_lines(numbers: dict[str, Any]) -> Iterator[str]:
    """Yield how many rows of the label table were not evaluated, and which files were not opened."""
    if failures := numbers["failures"]:
        causes = ", ".join(f"{count:,} {cause}" for cause, count in failures.items())
        yield f"Not evaluated: {sum(failures.values()):,} rows of the label table ({causes}), listed in {FAILED_NAME}"
    if numbers["unlabeled"]:
        yield f"Files without a label, not opened: {numbers['unlabeled']}"
