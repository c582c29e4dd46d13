"""Synthetic hands: who they are, what the raters say, and their radiographs.

In: a number of hands and a seed. Out: `Hand`s, and for each its picture and the facts behind it.
Invariant: a picture is a function of its `Hand` and the size; hand number i is the same whatever the number of hands.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wds_bone.labels.values import Gender
from wds_bone.phantom.anatomy import Build, Physique, Skeleton, build_skeleton
from wds_bone.phantom.chance import draw_bits, draw_normal, draw_uniform
from wds_bone.phantom.film import add_lead, expose, finish
from wds_bone.phantom.forms import hand_length_mm
from wds_bone.phantom.maturity import girl_equivalent, stages_at
from wds_bone.phantom.nuisances import NUISANCES, draw_nuisances
from wds_bone.phantom.radiograph import add_ring, draw_flesh, draw_mineral
from wds_bone.phantom.view import frame_hand

BOY_SHARE = 0.54
MIN_AGE_MONTHS, MAX_AGE_MONTHS = 1.0, 228.0
# Quantiles of the bone ages of the 2017 RSNA challenge's training set (Halabi and others, Radiology 290, 2019).
AGE_LEVELS = (0.0, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.975, 0.99, 1.0)
AGE_QUANTILES: dict[Gender, tuple[float, ...]] = {
    "F": (1, 25, 34, 48, 67, 86, 98, 110, 122, 131, 140, 151, 164, 177, 184, 196, 220),
    "M": (1, 23, 38, 52, 70, 99, 121, 135, 147, 154, 160, 167, 179, 193, 204, 212, 228),
}

RATER_SD_MONTHS = 7.0
# Shares of the readings; with them 58 % of the labels are whole years and 23 % half ones, as in that set.
SNAPS_TO_YEARS, SNAPS_TO_HALF_YEARS = 0.35, 0.43

SIZE_AGE_SD_MONTHS = 12.0  # chronological age against bone age
SIZE_SD = 0.05
FINGER_RATIO: dict[Gender, float] = {"F": 0.970, "M": 0.955}
FINGER_RATIO_SD = 0.03
ROBUST_SD, CORTEX_SD = 0.06, 0.08
ROBUST_BOYS, CORTEX_BOYS = 0.05, 0.04  # more than girls, after puberty
FACT_DIGITS = 3
PUBERTY_MONTHS = (126.0, 168.0)  # of a girl's age


@dataclass(frozen=True)
class Hand:
    """One synthetic hand; all its picture depends on."""

    key: str
    gender: Gender
    age_months: float  # the label
    true_age_months: float
    seed: int
    sex_cue_strength: float = 0.0
    nuisances: tuple[str, ...] = NUISANCES  # those switched on


def synthetic_hands(
    num_samples: int,
    *,
    seed: int,
    first: int = 0,
    label_noise: bool = True,
    raters: int = 1,
    sex_cue_strength: float = 0.0,
    nuisances: Collection[str] = NUISANCES,
) -> list[Hand]:
    """Return hands with the ages and genders of a large public training set.

    Args:
        num_samples: how many.
        seed: of everything; hand number i depends on `seed` and i alone.
        first: number of the first hand, so that splits drawn with one seed share no hand.
        label_noise: False: the label is the true age.
        raters: whose mean reading is the label.
        sex_cue_strength: 0 (the picture says nothing of the gender but through maturity) to 1.
        nuisances: names of those switched on.
    """
    hands = []
    for number in range(first, first + num_samples):
        hand_seed = draw_bits(seed, f"hand {number}")
        gender: Gender = "M" if draw_uniform(hand_seed, "gender") < BOY_SHARE else "F"
        true_age = float(np.interp(draw_uniform(hand_seed, "age"), AGE_LEVELS, AGE_QUANTILES[gender]))
        label = rate_age(true_age, raters=raters, seed=hand_seed) if label_noise else true_age
        key = f"hand-{seed}-{number:06d}"
        hands.append(Hand(key, gender, label, true_age, hand_seed, sex_cue_strength, tuple(nuisances)))
    return hands


def rate_age(true_age_months: float, *, raters: int, seed: int) -> float:
    """Return the mean reading in months of raters who err, and who like whole and half years."""
    readings = [_read_age(true_age_months, seed, f"rater {rater}") for rater in range(raters)]
    return float(np.mean(readings))


def draw_hand(hand: Hand, size: int) -> NDArray[np.uint8]:
    """Return the radiograph, uint8 (size, size), bones bright on nearly all films."""
    nuisances = draw_nuisances(hand.seed, hand.nuisances)
    skeleton = _skeleton(hand, nuisances)
    view = frame_hand(skeleton, size, nuisances=nuisances)
    mineral = draw_mineral(skeleton, view, seed=hand.seed)
    if nuisances["ring"]:
        add_ring(mineral, skeleton, view)
    add_lead(mineral, nuisances=nuisances, seed=hand.seed)
    film = expose(mineral, draw_flesh(skeleton, view), nuisances=nuisances, seed=hand.seed)
    return finish(film, view, size, nuisances=nuisances, seed=hand.seed)


def hand_facts(hand: Hand) -> dict[str, Any]:
    """Return what only the maker of a hand can know, in JSON types: for checks, never for training."""
    stages = stages_at(hand.true_age_months, hand.gender, seed=hand.seed)
    nuisances = draw_nuisances(hand.seed, hand.nuisances)
    return {
        "true_age_months": round(hand.true_age_months, FACT_DIGITS),
        "stages": {center: round(stage, FACT_DIGITS) for center, stage in stages.items()},
        "nuisances": {name: round(float(value), FACT_DIGITS) for name, value in nuisances.items()},
    }


def draw_physique(hand: Hand) -> Physique:
    """Return the build of the hand's owner; boys differ from girls in it by the strength of the cues alone."""
    strength = hand.sex_cue_strength
    boy = strength if hand.gender == "M" else 0.0
    grown = float(np.interp(girl_equivalent(hand.true_age_months, hand.gender), PUBERTY_MONTHS, (0.0, 1.0)))
    middle = (FINGER_RATIO["F"] + FINGER_RATIO["M"]) / 2.0
    ratio = middle + strength * (FINGER_RATIO[hand.gender] - middle)
    return Physique(
        finger_ratio=draw_normal(hand.seed, "finger ratio", ratio, FINGER_RATIO_SD),
        robustness=draw_normal(hand.seed, "robustness", 1.0 + boy * grown * ROBUST_BOYS, ROBUST_SD),
        cortex=draw_normal(hand.seed, "cortex", 1.0 + boy * grown * CORTEX_BOYS, CORTEX_SD),
    )


def _read_age(true_age_months: float, seed: int, rater: str) -> float:
    reading = draw_normal(seed, f"{rater} reads", true_age_months, RATER_SD_MONTHS)
    liking = draw_uniform(seed, f"{rater} likes")
    step = 12.0 if liking < SNAPS_TO_YEARS else 6.0 if liking < SNAPS_TO_YEARS + SNAPS_TO_HALF_YEARS else 1.0
    return min(max(step * round(reading / step), MIN_AGE_MONTHS), MAX_AGE_MONTHS)


def _skeleton(hand: Hand, nuisances: dict[str, float]) -> Skeleton:
    stages = stages_at(hand.true_age_months, hand.gender, seed=hand.seed)
    size_age = draw_normal(hand.seed, "size age", hand.true_age_months, SIZE_AGE_SD_MONTHS)
    length = hand_length_mm(size_age, hand.gender) * draw_normal(hand.seed, "size", 1.0, SIZE_SD)
    return build_skeleton(Build(stages, length, nuisances, draw_physique(hand), hand.seed))
