"""Create synthetic hands with their ages, genders and labels, and draw their radiographs.

In: a number of hands and a seed.
Out: a list of `Hand`, and for each one its image and its true values.
Invariant: an image is a function of its `Hand` and the size, and hand i does not depend on the number of hands.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wds_bone.labels.values import Gender
from wds_bone.phantom.anatomy import Physique, Skeleton, SkeletonSpec, build_skeleton
from wds_bone.phantom.dimensions import hand_length_mm
from wds_bone.phantom.film import add_marker, digitize, expose
from wds_bone.phantom.maturity import girl_equivalent, stages_at
from wds_bone.phantom.nuisances import NUISANCES, draw_nuisances
from wds_bone.phantom.radiograph import add_ring, draw_mineral, draw_soft_tissue
from wds_bone.phantom.randomness import draw_bits, draw_normal, draw_uniform
from wds_bone.phantom.view import frame_hand

BOY_FRACTION = 0.54
MIN_AGE_MONTHS, MAX_AGE_MONTHS = 1.0, 228.0
# Quantiles of the bone ages in the training set of the 2017 RSNA challenge (Halabi et al., Radiology 290, 2019).
AGE_LEVELS = (0.0, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.975, 0.99, 1.0)
AGE_QUANTILES: dict[Gender, tuple[float, ...]] = {
    "F": (1, 25, 34, 48, 67, 86, 98, 110, 122, 131, 140, 151, 164, 177, 184, 196, 220),
    "M": (1, 23, 38, 52, 70, 99, 121, 135, 147, 154, 160, 167, 179, 193, 204, 212, 228),
}

RATER_SD_MONTHS = 7.0
# Fractions of the readings rounded to whole and half years, chosen so that 58% of the labels are whole years and 23%
# are half years, as in that set.
WHOLE_YEAR_FRACTION, HALF_YEAR_FRACTION = 0.35, 0.43

SIZE_AGE_SD_MONTHS = 12.0  # of the chronological age, which determines the size, around the bone age
SIZE_SD = 0.05
FINGER_RATIO: dict[Gender, float] = {"F": 0.970, "M": 0.955}
FINGER_RATIO_SD = 0.03
ROBUSTNESS_SD, CORTEX_SD = 0.06, 0.08
BOY_ROBUSTNESS_EXCESS, BOY_CORTEX_EXCESS = 0.05, 0.04  # relative to girls, after puberty
FACT_DIGITS = 3
PUBERTY_MONTHS = (126.0, 168.0)  # in girl-equivalent age


@dataclass(frozen=True)
class Hand:
    """One synthetic hand: everything that its image depends on."""

    key: str
    gender: Gender
    age_months: float  # the label
    true_age_months: float
    seed: int
    sex_cue_strength: float = 0.0
    nuisances: tuple[str, ...] = NUISANCES  # names of those enabled


def synthetic_hands(
    num_samples: int,
    *,
    seed: int,
    first: int = 0,
    label_noise: bool = True,
    num_raters: int = 1,
    sex_cue_strength: float = 0.0,
    nuisances: Collection[str] = NUISANCES,
) -> list[Hand]:
    """Return hands with the ages and genders of a large public training set.

    Args:
        num_samples: number of hands.
        seed: seed of all draws; hand i depends only on `seed` and i.
        first: number of the first hand, so that splits drawn with one seed have no hand in common.
        label_noise: whether the label is a reading by raters rather than the true age.
        num_raters: number of raters; the label is their mean reading.
        sex_cue_strength: from 0 (only maturity and hand size depend on the gender) to 1.
        nuisances: names of the enabled nuisances.
    """
    hands = []
    for number in range(first, first + num_samples):
        hand_seed = draw_bits(seed, f"hand {number}")
        gender: Gender = "M" if draw_uniform(hand_seed, "gender") < BOY_FRACTION else "F"
        true_age = float(np.interp(draw_uniform(hand_seed, "age"), AGE_LEVELS, AGE_QUANTILES[gender]))
        label = rate_age(true_age, num_raters=num_raters, seed=hand_seed) if label_noise else true_age
        key = f"hand-{seed}-{number:06d}"
        hands.append(Hand(key, gender, label, true_age, hand_seed, sex_cue_strength, tuple(nuisances)))
    return hands


def rate_age(true_age_months: float, *, num_raters: int, seed: int) -> float:
    """Return the mean reading, in months, of raters who make errors and prefer whole and half years."""
    readings = [_read_age(true_age_months, seed, f"rater {rater}") for rater in range(num_raters)]
    return float(np.mean(readings))


def draw_hand(hand: Hand, size: int) -> NDArray[np.uint8]:
    """Return the radiograph, uint8 (size, size); bones are bright except on the few inverted films."""
    nuisances = draw_nuisances(hand.seed, hand.nuisances)
    skeleton = _skeleton(hand, nuisances)
    view = frame_hand(skeleton, size, nuisances=nuisances)
    mineral = draw_mineral(skeleton, view, seed=hand.seed)
    if nuisances["ring"]:
        add_ring(mineral, skeleton, view)
    add_marker(mineral, nuisances=nuisances, seed=hand.seed)
    film = expose(mineral, draw_soft_tissue(skeleton, view), nuisances=nuisances, seed=hand.seed)
    return digitize(film, view, size, nuisances=nuisances, seed=hand.seed)


def hand_ground_truth(hand: Hand) -> dict[str, Any]:
    """Return the true age, stages and nuisances in JSON types, for checks and never for training."""
    stages = stages_at(hand.true_age_months, hand.gender, seed=hand.seed)
    nuisances = draw_nuisances(hand.seed, hand.nuisances)
    return {
        "true_age_months": round(hand.true_age_months, FACT_DIGITS),
        "stages": {center: round(stage, FACT_DIGITS) for center, stage in stages.items()},
        "nuisances": {name: round(float(value), FACT_DIGITS) for name, value in nuisances.items()},
    }


def draw_physique(hand: Hand) -> Physique:
    """Return the body proportions; their means differ between boys and girls only if `sex_cue_strength` is above 0."""
    strength = hand.sex_cue_strength
    boy_strength = strength if hand.gender == "M" else 0.0
    pubertal = float(np.interp(girl_equivalent(hand.true_age_months, hand.gender), PUBERTY_MONTHS, (0.0, 1.0)))
    middle = (FINGER_RATIO["F"] + FINGER_RATIO["M"]) / 2.0
    ratio = middle + strength * (FINGER_RATIO[hand.gender] - middle)
    return Physique(
        finger_ratio=draw_normal(hand.seed, "finger ratio", ratio, FINGER_RATIO_SD),
        robustness=draw_normal(
            hand.seed, "robustness", 1.0 + boy_strength * pubertal * BOY_ROBUSTNESS_EXCESS, ROBUSTNESS_SD
        ),
        cortex=draw_normal(hand.seed, "cortex", 1.0 + boy_strength * pubertal * BOY_CORTEX_EXCESS, CORTEX_SD),
    )


def _read_age(true_age_months: float, seed: int, rater: str) -> float:
    reading = draw_normal(seed, f"{rater} reads", true_age_months, RATER_SD_MONTHS)
    draw = draw_uniform(seed, f"{rater} likes")
    step = 12.0 if draw < WHOLE_YEAR_FRACTION else 6.0 if draw < WHOLE_YEAR_FRACTION + HALF_YEAR_FRACTION else 1.0
    return min(max(step * round(reading / step), MIN_AGE_MONTHS), MAX_AGE_MONTHS)


def _skeleton(hand: Hand, nuisances: dict[str, float]) -> Skeleton:
    stages = stages_at(hand.true_age_months, hand.gender, seed=hand.seed)
    size_age = draw_normal(hand.seed, "size age", hand.true_age_months, SIZE_AGE_SD_MONTHS)
    length = hand_length_mm(size_age, hand.gender) * draw_normal(hand.seed, "size", 1.0, SIZE_SD)
    return build_skeleton(SkeletonSpec(stages, length, nuisances, draw_physique(hand), hand.seed))
