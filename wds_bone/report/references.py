"""Compute the errors that those of a model should be compared with.

In: predictions, of which only the true ages and genders are used, and the median ages of the training samples.
Out: a dictionary in plain JSON types.
Invariant: no reference depends on the model.
"""

from typing import Any

import numpy as np

from wds_bone.inference.predictions import Predictions
from wds_bone.learn.metrics import constant_error
from wds_bone.report.metrics import gender_members

RADIOLOGIST_MAE_MONTHS = 5.8
RADIOLOGIST_SOURCE = "a radiologist against the mean of 46 (Visiana, Bone Age Rating Test, bonexpert.com)"
"""The mean absolute difference between one radiologist and the truth, at https://bonexpert.com/apps/BoneAgeTest/.

Peer-reviewed figures agree: single raters of the RSNA test set are estimated to be off by 4.8 to 7.0 months
(Scientific Reports 2025, doi:10.1038/s41598-025-20148-w, table 1), and the standard deviation between raters of 0.58
years in Martin et al. (Scientific Reports 12:6388, 2022) is a mean absolute error of 5.6 months if errors are normal.
Labels that are themselves the reading of one radiologist have this error too, so a model may look worse on them than
it is.
"""


def describe_references(predictions: Predictions, *, train_median_months: dict[str, float]) -> dict[str, Any]:
    """Return the mean absolute errors of two predictors that do not look at the image, and of a radiologist.

    Args:
        predictions: only their true ages and genders are used.
        train_median_months: the median training age, for "all" and each gender that was trained on.

    Returns:
        `constant`: `median_months` and `mae_months` of always predicting the median training age, for "all"; and of
        predicting the median of the gender, for "F" and "M".
        `gender_median`: `mae_months` of predicting the median of the gender, over all samples.
        `radiologist`: `mae_months` and its `source`.
    """
    ages = predictions.age_months
    groups = {"all": np.ones(len(ages), bool), **gender_members(predictions)}
    used = {name: train_median_months.get(name, train_median_months["all"]) for name in groups}
    errors = {name: constant_error(np.array([used[name]]), ages[members]) for name, members in groups.items()}
    total = sum(error * np.sum(groups[name]) for name, error in errors.items() if name != "all")
    return {
        "constant": {"median_months": used, "mae_months": errors},
        "gender_median": {"mae_months": float(total / len(ages))},
        "radiologist": {"mae_months": RADIOLOGIST_MAE_MONTHS, "source": RADIOLOGIST_SOURCE},
    }
