"""Format the errors of an evaluation for a terminal.

In: the dictionaries of `summarize` and `describe_references`.
Out: text of at most 120 columns.
Invariant: every number of the text is in the dictionaries.
"""

from collections.abc import Callable, Iterator
from typing import Any

from wds_bone.labels.values import GENDER_NAMES
from wds_bone.report.metrics import FEW_SAMPLES, WITHIN_MONTHS, format_interval

Numbers = dict[str, Any]

_MARK = "*"
_COLUMNS: dict[str, Callable[[Numbers], str]] = {
    "n": lambda numbers: f"{numbers['num_samples']:,}{_MARK if numbers['few_samples'] else ' '}",
    "MAE": lambda numbers: f"{numbers['mae_months']:.2f}",
    "95 % interval": lambda numbers: format_interval(numbers["mae_interval_months"], decimals=2),
    "RMSE": lambda numbers: f"{numbers['rmse_months']:.2f}",
    "median": lambda numbers: f"{numbers['median_absolute_error_months']:.2f}",
    "P90": lambda numbers: f"{numbers['p90_absolute_error_months']:.1f}",
    "P95": lambda numbers: f"{numbers['p95_absolute_error_months']:.1f}",
    "max": lambda numbers: f"{numbers['max_absolute_error_months']:.1f}",
    "bias": lambda numbers: _signed(numbers["bias_months"]),
    **{
        f"<= {months}": lambda numbers, name=f"within_{months}_months": f"{numbers[name]:.0%}"  # type: ignore[misc]
        for months in WITHIN_MONTHS
    },
}
"""The columns of the table, and the function that formats the numbers of a row."""


def format_summary(summary: dict[str, Any], references: dict[str, Any]) -> str:
    """Return the errors of all groups as a table, with the agreement and the references below it.

    Args:
        summary: returned by `summarize`.
        references: returned by `describe_references`; may have other entries, too.
    """
    groups = list(_groups(summary))
    rows = [["group", *_COLUMNS], *([name, *(show(numbers) for show in _COLUMNS.values())] for name, numbers in groups)]
    lines = [*_align(rows), "Errors in months; an error is predicted minus true age."]
    if any(numbers["few_samples"] for _, numbers in groups):
        lines.append(f"{_MARK} fewer than {FEW_SAMPLES} samples")
    return "\n".join([*lines, "", *_agreement_lines(summary["all"]), "", *_reference_lines(references)])


def _groups(summary: dict[str, Any]) -> Iterator[tuple[str, Numbers]]:
    """Yield the name and the numbers of each row: all, each gender, each age band, each gender and age band."""
    yield "all", summary["all"]
    yield from ((GENDER_NAMES[gender], numbers) for gender, numbers in summary["gender"].items())
    yield from ((f"{band} y", numbers) for band, numbers in summary["age_band_years"].items())
    for gender, bands in summary["gender_age_band_years"].items():
        yield from ((f"{GENDER_NAMES[gender]} {band} y", numbers) for band, numbers in bands.items())


def _align(rows: list[list[str]]) -> Iterator[str]:
    """Yield the lines of a table whose first column is aligned to the left and whose other columns to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *cells in rows:
        aligned = (f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))
        yield " ".join([f"{first:<{widths[0]}}", *aligned]).rstrip()


def _agreement_lines(numbers: Numbers) -> Iterator[str]:
    """Yield the agreement of predicted and true age over all samples."""
    names = {"R2": "r2", "Pearson's r": "pearson", "Lin's CCC": "lin_ccc", "ICC(2,1)": "icc_2_1"}
    coefficients = ", ".join(f"{name} {_coefficient(numbers[key])}" for name, key in names.items())
    yield "Agreement of all samples, with 95 % intervals:"
    yield f"  {coefficients}, slope of the error over the true age {_signed(numbers['error_slope'])}"
    limits = numbers["bland_altman"]
    bias = f"bias {_signed(numbers['bias_months'])} ({format_interval(limits['bias_interval_months'], decimals=2)})"
    low, high = (
        f"{_signed(limits[f'{side}_months'], decimals=1)} "
        f"({format_interval(limits[f'{side}_interval_months'], decimals=1)})"
        for side in ("low", "high")
    )
    yield f"  {bias}, limits of agreement {low} and {high}"


def _reference_lines(references: dict[str, Any]) -> Iterator[str]:
    """Yield the MAE of predictors that do not look at the image, and of a radiologist."""
    constant = references["constant"]["mae_months"]
    genders = "".join(f", {name} {constant[gender]:.2f}" for gender, name in GENDER_NAMES.items() if gender in constant)
    yield "MAE to compare with:"
    yield f"  {constant['all']:5.2f}  always the median training age"
    yield f"  {references['gender_median']['mae_months']:5.2f}  always the median training age of the gender{genders}"
    yield f"  {references['radiologist']['mae_months']:4.1f}   {references['radiologist']['source']}"


def _coefficient(value: float | None) -> str:
    return "?" if value is None else f"{value:.3f}"


def _signed(value: float | None, *, decimals: int = 2) -> str:
    return "?" if value is None else f"{value:+z.{decimals}f}"
