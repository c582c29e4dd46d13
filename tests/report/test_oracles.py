"""Compare every metric of an evaluation with the same metric of another package, on random predictions."""

import math
from collections.abc import Collection
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.report.oracles import ORACLES, SLOW
from wds_bone.inference.predictions import Predictions
from wds_bone.report.metrics import error_metrics, summarize

NOT_MEASURED = {"num_samples", "few_samples"}


@st.composite
def predictions(draw: st.DrawFn, *, min_size: int = 5) -> Predictions:
    """Draw ages that differ, and errors of a few months or many years, with a bias and a slope."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(min_size, 300))
    spread, bias, slope = draw(st.floats(0.1, 100)), draw(st.floats(-30, 30)), draw(st.floats(-0.9, 0.9))
    ages = generator.uniform(0, 228, n)
    errors = generator.normal(bias, spread, n) + slope * (ages - 120)
    months = (ages.astype(np.float32), (ages + errors).astype(np.float32))
    return Predictions([str(row) for row in range(n)], np.zeros(n, np.float32), *months)


def metric_of(numbers: dict[str, Any], name: str) -> Any:
    for part in name.split("."):
        numbers = numbers[part]
    return numbers


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # pingouin with pandas 3.1
@pytest.mark.parametrize(
    ("names", "num_examples"), [(ORACLES.keys() - SLOW, 30), (SLOW, 10)], ids=["fast oracles", "slow oracles"]
)
def test_the_metrics_equal_those_of_other_packages(names: Collection[str], num_examples: int) -> None:
    @settings(max_examples=num_examples)
    @given(predictions())
    def check(drawn: Predictions) -> None:
        predicted, true = (column.astype(np.float64) for column in (drawn.predicted_months, drawn.age_months))
        numbers = error_metrics(drawn, np.ones(len(true), bool))
        for name in names:
            _, oracle = ORACLES[name]
            # The t quantile of an interval is within 0.05 %; everything else is as exact as double precision.
            tolerance = 5e-4 if name.startswith("bland_altman") and name.endswith("interval_months") else 1e-9
            expected = np.array(oracle(predicted, true))
            largest = max(1.0, np.abs(expected).max())
            np.testing.assert_allclose(metric_of(numbers, name), expected, 0, tolerance * largest, err_msg=name)

    check()


def test_every_metric_has_an_oracle() -> None:
    numbers = summarize(Predictions(["a"], *(np.ones(1, np.float32),) * 3))["all"]
    nested = numbers.pop("bland_altman")
    names = (numbers.keys() - NOT_MEASURED) | {f"bland_altman.{name}" for name in nested}
    assert names == ORACLES.keys()


rare_months = st.one_of(
    st.floats(-300, 300, width=32), st.sampled_from([0.0, 100.0, 240.0]), st.floats(-(2.0**100), 2.0**100, width=32)
)


@given(st.lists(st.tuples(st.sampled_from([0, 1]), rare_months, rare_months), min_size=1, max_size=8))
def test_what_predictions_do_not_determine_is_none_and_never_nan(rows: list[tuple[int, float, float]]) -> None:
    columns = (np.array(column, np.float32) for column in zip(*rows, strict=True))
    numbers = summarize(Predictions([str(row) for row in range(len(rows))], *columns))["all"]
    values = [numbers[name] for name in numbers.keys() - {"bland_altman"}] + list(numbers["bland_altman"].values())
    flat = [number for value in values for number in (value if isinstance(value, list) else [value])]
    assert all(math.isfinite(number) for number in flat if number is not None)
