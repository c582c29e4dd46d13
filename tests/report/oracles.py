"""The metrics of an evaluation as other packages compute them, under their names in `metrics.json`.

The packages are imported when a metric is computed, because torchmetrics alone takes seconds to import.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Ages = NDArray[np.float64]
Oracle = Callable[[Ages, Ages], float | list[float]]


def torchmetrics_of(name: str, **options: object) -> Oracle:
    def oracle(predicted: Ages, true: Ages) -> float:
        import torch
        import torchmetrics.functional

        return float(getattr(torchmetrics.functional, name)(torch.tensor(predicted), torch.tensor(true), **options))

    return oracle


def lin_ccc(predicted: Ages, true: Ages) -> float:
    """Return the coefficient of torchmetrics, which divides variances by n - 1, with variances divided by n."""
    with_n_minus_1 = torchmetrics_of("concordance_corrcoef")(predicted, true)
    covariance = np.cov(predicted, true)[0, 1]
    squared_bias = (predicted.mean() - true.mean()) ** 2
    distance = 2 * covariance / with_n_minus_1 + squared_bias / (len(true) - 1)
    return float(2 * covariance / distance)


def icc_2_1(predicted: Ages, true: Ages) -> float:
    import pandas as pd
    import pingouin

    n = len(true)
    frame = pd.DataFrame(
        {
            "film": np.tile(np.arange(n), 2),
            "rater": np.repeat(["model", "truth"], n),
            "age": np.concatenate([predicted, true]),
        }
    )
    table = pingouin.intraclass_corr(data=frame, targets="film", raters="rater", ratings="age").set_index("Type")
    return float(table.loc["ICC(A,1)", "ICC"])  # McGraw and Wong's name for ICC(2,1)


def error_slope(predicted: Ages, true: Ages) -> float:
    from scipy import stats

    return float(stats.linregress(true, predicted - true).slope)


def pearson(predicted: Ages, true: Ages) -> float:
    from scipy import stats

    return float(stats.pearsonr(predicted, true).statistic)


def percentile(percent: float) -> Oracle:
    def oracle(predicted: Ages, true: Ages) -> float:
        from scipy import stats

        return float(stats.scoreatpercentile(np.abs(predicted - true), percent))

    return oracle


def max_error(predicted: Ages, true: Ages) -> float:
    from scipy.spatial.distance import chebyshev

    return float(chebyshev(predicted, true))


def bias(predicted: Ages, true: Ages) -> float:
    from scipy import stats

    return float(stats.tmean(predicted - true))


def within(months: int) -> Oracle:
    def oracle(predicted: Ages, true: Ages) -> float:
        from scipy import stats

        return float(stats.percentileofscore(np.abs(predicted - true), months, kind="weak") / 100)

    return oracle


def mae_interval(predicted: Ages, true: Ages) -> list[float]:
    from scipy import stats

    generator = np.random.Generator(np.random.PCG64(0))
    errors = np.abs(predicted - true)
    found = stats.bootstrap((errors,), np.mean, n_resamples=2000, method="percentile", rng=generator)
    return list(map(float, found.confidence_interval))


def bias_interval(predicted: Ages, true: Ages) -> list[float]:
    from scipy import stats

    return list(map(float, stats.ttest_1samp(predicted - true, 0).confidence_interval()))


def limit(sign: int) -> Oracle:
    def oracle(predicted: Ages, true: Ages) -> float:
        from scipy import stats

        return float(stats.tmean(predicted - true) + sign * 1.96 * stats.tstd(predicted - true))

    return oracle


def limit_interval(sign: int) -> Oracle:
    def oracle(predicted: Ages, true: Ages) -> list[float]:
        from scipy import stats

        n, sd = len(true), stats.tstd(predicted - true)
        standard_error = sd * (1 / n + 1.96**2 / (2 * (n - 1))) ** 0.5
        return list(map(float, stats.t.interval(0.95, n - 1, limit(sign)(predicted, true), standard_error)))

    return oracle


ORACLES: dict[str, tuple[str, Oracle]] = {
    "mae_months": ("torchmetrics mean_absolute_error", torchmetrics_of("mean_absolute_error")),
    "mae_interval_months": ("scipy bootstrap, percentile", mae_interval),
    "rmse_months": ("torchmetrics mean_squared_error", torchmetrics_of("mean_squared_error", squared=False)),
    "median_absolute_error_months": ("scipy scoreatpercentile", percentile(50)),
    "p90_absolute_error_months": ("scipy scoreatpercentile", percentile(90)),
    "p95_absolute_error_months": ("scipy scoreatpercentile", percentile(95)),
    "max_absolute_error_months": ("scipy chebyshev", max_error),
    "bias_months": ("scipy tmean", bias),
    **{f"within_{months}_months": ("scipy percentileofscore", within(months)) for months in (6, 12, 18, 24)},
    "r2": ("torchmetrics r2_score", torchmetrics_of("r2_score")),
    "pearson": ("scipy pearsonr", pearson),
    "lin_ccc": ("torchmetrics concordance_corrcoef, with n", lin_ccc),
    "icc_2_1": ("pingouin intraclass_corr, ICC(A,1)", icc_2_1),
    "error_slope": ("scipy linregress", error_slope),
    "bland_altman.bias_interval_months": ("scipy ttest_1samp", bias_interval),
    "bland_altman.low_months": ("scipy tmean, tstd", limit(-1)),
    "bland_altman.low_interval_months": ("scipy t.interval", limit_interval(-1)),
    "bland_altman.high_months": ("scipy tmean, tstd", limit(+1)),
    "bland_altman.high_interval_months": ("scipy t.interval", limit_interval(+1)),
}
"""For every metric: the function of another package that computes it, by name and as a function of the ages."""
SLOW = ("mae_interval_months", "icc_2_1")
"""The metrics whose oracles take tens of milliseconds."""
