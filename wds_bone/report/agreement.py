"""Measure how well predicted and true ages agree.

In: predicted and true ages of the same samples.
Out: coefficients, and the bias and limits of Bland and Altman, in plain JSON types.
Invariant: what the samples do not determine is None, never NaN. That is everything but the bias with fewer than three
samples, intervals with fewer than five, and coefficients that would divide by a variance of zero.
"""

from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wds_bone.inference.bootstrap import LEVEL

MIN_INTERVAL_SAMPLES = 5
"""With fewer samples, an interval would be meaningless."""
_MIN_AGREEMENT_SAMPLES = 3
"""Through two points there is always a line, so the correlation of two samples is always 1 or -1."""
_AGREEMENT_SDS = 1.96

Float64s = NDArray[np.float64]


def measure_agreement(predicted: Float64s, true: Float64s) -> dict[str, Any]:
    """Return the coefficients of agreement of predicted and true ages in months, each (n,) with n at least 1.

    Returns:
        `r2`: 1 - (squared errors) / (squared deviations of the true ages from their mean).
        `pearson`: the correlation coefficient.
        `lin_ccc`: the concordance correlation coefficient (Lin, Biometrics 1989, with variances divided by n).
        `icc_2_1`: the intraclass correlation for absolute agreement of single ratings, with prediction and truth as
        two raters (Shrout and Fleiss, Psychological Bulletin 1979, their ICC(2,1)).
        `error_slope`: the slope of the least squares line of the error over the true age, in months per month; it is
        negative if the ages of the youngest are predicted too high and those of the oldest too low.
        `bland_altman`: as returned by `bland_altman`.
    """
    enough = len(true) >= _MIN_AGREEMENT_SAMPLES
    true_varies, predicted_varies = (enough and values.min() < values.max() for values in (true, predicted))
    both_vary = true_varies and predicted_varies
    return {
        "r2": _r2(predicted, true) if true_varies else None,
        "pearson": _pearson(predicted, true) if both_vary else None,
        "lin_ccc": _lin_ccc(predicted, true) if both_vary else None,
        "icc_2_1": _icc_2_1(predicted, true) if both_vary else None,
        "error_slope": _covariance(predicted - true, true) / float(true.var()) if true_varies else None,
        "bland_altman": bland_altman(predicted - true),
    }


def bland_altman(errors: Float64s) -> dict[str, Any]:
    """Return the limits of agreement of errors in months, (n,), and the 95 % intervals of bias and limits.

    The limits are 1.96 standard deviations (with n - 1) on either side of the bias, the mean error. Their intervals are
    the approximate ones of Bland and Altman (Statistical Methods in Medical Research 1999, section 3.2), with the
    variance s² (1 / n + 1.96² / (2 (n - 1))) of a limit and the t distribution. They assume errors that are normal and
    whose spread does not depend on the age.

    Returns:
        `low_months` and `high_months`; `bias_interval_months`, `low_interval_months` and `high_interval_months`, each
        a list of two numbers.
    """
    n = len(errors)
    low = high = bias_interval = low_interval = high_interval = None
    bias = float(errors.mean())
    if n >= _MIN_AGREEMENT_SAMPLES:
        sd = float(errors.std(ddof=1))
        low, high = bias - _AGREEMENT_SDS * sd, bias + _AGREEMENT_SDS * sd
        if n >= MIN_INTERVAL_SAMPLES:
            t = _t_quantile((1 + LEVEL) / 2, degrees=n - 1)
            bias_half, limit_half = t * sd / n**0.5, t * sd * (1 / n + _AGREEMENT_SDS**2 / (2 * (n - 1))) ** 0.5
            bias_interval = [bias - bias_half, bias + bias_half]
            low_interval, high_interval = ([limit - limit_half, limit + limit_half] for limit in (low, high))
    return {
        "bias_interval_months": bias_interval,
        "low_months": low,
        "low_interval_months": low_interval,
        "high_months": high,
        "high_interval_months": high_interval,
    }


def _covariance(first: Float64s, second: Float64s) -> float:
    return float(np.mean((first - first.mean()) * (second - second.mean())))


def _r2(predicted: Float64s, true: Float64s) -> float:
    return float(1 - np.mean((predicted - true) ** 2) / true.var())


def _pearson(predicted: Float64s, true: Float64s) -> float:
    return float(np.clip(_covariance(predicted, true) / (predicted.std() * true.std()), -1, 1))


def _lin_ccc(predicted: Float64s, true: Float64s) -> float:
    distance = predicted.var() + true.var() + (predicted.mean() - true.mean()) ** 2
    return float(2 * _covariance(predicted, true) / distance)


def _icc_2_1(predicted: Float64s, true: Float64s) -> float:
    """Return ICC(2,1) from the mean squares of a two-way analysis of variance with two raters."""
    n, errors = len(true), predicted - true
    between_samples = 2 * ((predicted + true) / 2).var(ddof=1)
    between_raters = n * errors.mean() ** 2 / 2
    residual = errors.var(ddof=1) / 2
    total = between_samples + residual + 2 * (between_raters - residual) / n
    return float((between_samples - residual) / total)


def _t_quantile(probability: float, *, degrees: int) -> float:
    """Return a quantile of Student's t distribution, within 0.05 % for at least 4 degrees of freedom at 0.975.

    This is the expansion 26.7.5 of Abramowitz and Stegun (Handbook of Mathematical Functions, 1964).
    """
    z = NormalDist().inv_cdf(probability)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return float(sum(term / degrees**power for power, term in enumerate(terms)))
