"""Turn predictions into intervals that contain the true age with a chosen probability: split-conformal prediction.

In: predictions for samples that the model was not trained on.
Out: a `Calibration`, which gives an interval (and, asked for, a correction) for every further prediction.
Invariant: if the samples and a further child come from one population, its interval contains its age with at least the
chosen probability, on average over all samples; nothing is assumed about the model or the distribution of its errors.
With a correction, this holds closely but not exactly.

The method is split-conformal prediction (Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005; Lei
et al., JASA 113, 2018) with the absolute error as the score, for girls and boys separately (Mondrian; Vovk 2003).
"""

import hashlib
import math
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wds_bone.errors import WdsBoneError
from wds_bone.inference.predictions import Predictions, format_months
from wds_bone.labels.values import GENDER_NAMES


@dataclass(frozen=True)
class GenderCalibration:
    """The calibration for one gender.

    Attributes:
        num_samples: number of samples that it was fitted on.
        half_width_months: half the width of the intervals.
        slope: of the line that corrects predictions; 1 without a correction.
        intercept_months: of that line; 0 without a correction.
        standard_error_months: uncertainty of the correction at the mean prediction; 0 without a correction.
    """

    num_samples: int
    half_width_months: float
    slope: float = 1.0
    intercept_months: float = 0.0
    standard_error_months: float = 0.0


@dataclass(frozen=True)
class Calibration:
    """The intervals of a model.

    Attributes:
        level: the probability that an interval contains the true age.
        corrects: whether predictions are corrected.
        genders: the calibration of "F" and of "M".
        samples_sha256: digest of the keys, genders and ages that it was fitted on; it does not depend on their order.
    """

    level: float
    corrects: bool
    genders: dict[str, GenderCalibration]
    samples_sha256: str

    @classmethod
    def fit(cls, predictions: Predictions, level: float = 0.9, *, correct: bool = False) -> "Calibration":
        """Fit the intervals, and a line for each gender if predictions are to be corrected.

        The result does not depend on the order of the samples.

        Args:
            predictions: of samples that the model was not trained on, without an earlier correction.
            level: the probability that an interval contains the true age, above 0 and below 1.
            correct: whether to correct predictions for a site: the line is the least-squares regression of the ages on
                the predictions. Errors are then those of the line fitted without that sample (jackknife; Barber et
                al., Annals of Statistics 49, 2021), so that fitting it does not make the intervals too narrow.

        Raises:
            WdsBoneError: if there are too few girls or boys for the level, or their predictions are too similar or in
                the wrong order for a correction.
        """
        genders = {}
        for number, gender in enumerate(GENDER_NAMES):
            members = predictions.gender == number
            _refuse_few(int(members.sum()), gender, level=level)
            columns = np.stack([predictions.predicted_months[members], predictions.age_months[members]])
            # Sorted, because the order would change the rounding of sums.
            predicted, ages = columns[:, np.lexsort(columns)].astype(np.float64)
            genders[gender] = _fit_gender(predicted, ages, gender, level, correct)
        return cls(level, correct, genders, samples_digest(predictions))

    def apply(
        self, predicted_months: NDArray[np.float32], gender: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the corrected predictions and their intervals.

        Limits below 0 become 0, because no age is below. A prediction does not depend on the others.

        Args:
            predicted_months: float32 (n,), predictions of the model.
            gender: float32 (n,), 1 male and 0 female.

        Returns:
            float32 (n,), in months; without a correction, `predicted_months`.
            float32 (n, 2), the lower and upper limits in months.
        """
        slope, intercept, half_width = self._columns("slope", "intercept_months", "half_width_months", gender=gender)
        corrected = (slope * predicted_months.astype(np.float64) + intercept).astype(np.float32)
        limits = corrected.astype(np.float64)[:, None] + half_width[:, None] * (-1.0, 1.0)
        return corrected, np.maximum(limits, 0.0).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """Return the calibration in plain JSON types, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_json(cls, description: dict[str, Any]) -> "Calibration":
        """Return the calibration that `to_json` wrote.

        Raises:
            KeyError, TypeError: if a part is missing or unknown.
        """
        genders = {gender: GenderCalibration(**description["genders"][gender]) for gender in GENDER_NAMES}
        return cls(**{**description, "genders": genders})

    def _columns(self, *names: str, gender: NDArray[np.float32]) -> list[NDArray[np.float64]]:
        """Return, for each name, float64 (n,): that attribute for the gender of each sample."""
        return [np.where(gender == 1, *(getattr(self.genders[key], name) for key in ("M", "F"))) for name in names]


def samples_digest(predictions: Predictions) -> str:
    """Return the sha256 of the keys, genders and ages of the samples, in any order."""
    columns = zip(predictions.key, predictions.gender, predictions.age_months, strict=True)
    rows = sorted(f"{key}\t{gender:.0f}\t{format_months(age)}\n" for key, gender, age in columns)
    return hashlib.sha256("".join(rows).encode()).hexdigest()


def conformal_rank(num_samples: int, *, level: float) -> int:
    """Return ceil((n + 1) * level): the error of this rank, from 1 for the smallest, is half the width."""
    return math.ceil((num_samples + 1) * _exact(level))


def smallest_count(level: float) -> int:
    """Return the number of samples that an interval of this level needs, such as 9 for 0.9."""
    exact = _exact(level)
    return math.ceil(exact / (1 - exact))


def _fit_gender(
    predicted: NDArray[np.float64], ages: NDArray[np.float64], gender: str, level: float, correct: bool
) -> GenderCalibration:
    if not correct:
        return GenderCalibration(len(ages), _conformal_quantile(np.abs(ages - predicted), level))
    centered = predicted - predicted.mean()
    scatter = float(centered @ centered)
    leverage = 1 / len(ages) + centered**2 / (scatter or np.inf)
    slope = float(centered @ ages) / (scatter or np.inf)
    if slope <= 0 or leverage.max() > 1 - 1e-9:
        raise _unfit_for_a_line(gender, slope)
    intercept = float(ages.mean() - slope * predicted.mean())
    errors = ages - (slope * predicted + intercept)
    standard_error = math.sqrt(float(errors @ errors) / (len(ages) - 2) / len(ages))
    half_width = _conformal_quantile(np.abs(errors / (1 - leverage)), level)
    return GenderCalibration(len(ages), half_width, slope, intercept, standard_error)


def _conformal_quantile(scores: NDArray[np.float64], level: float) -> float:
    """Return the score, of those that are sorted in ascending order, at the rank of the level."""
    rank = conformal_rank(len(scores), level=level)
    return float(np.partition(scores, rank - 1)[rank - 1])


def _exact(level: float) -> Fraction:
    """Return a level as it is typed: the float 0.55 times 100 is more than 55, and would be rounded up to 56."""
    return Fraction(str(level))


def _refuse_few(num_samples: int, gender: str, *, level: float) -> None:
    needed = smallest_count(level)
    if num_samples < needed:
        raise WdsBoneError(
            f"there are too few {GENDER_NAMES[gender]} for intervals that contain {level:.10g} of the ages",
            expected=f"at least {needed:,} {GENDER_NAMES[gender]}",
            got=f"{num_samples:,}",
            do=f"calibrate with more films of {GENDER_NAMES[gender]}, or use a lower --level",
        )


def _unfit_for_a_line(gender: str, slope: float) -> WdsBoneError:
    return WdsBoneError(
        f"the predictions for the {GENDER_NAMES[gender]} cannot be corrected by a line",
        expected="predictions that rise with the true age",
        got=f"slope {slope:.3g}",
        do="check the labels, calibrate with films of more ages, or leave out --correct",
    )
