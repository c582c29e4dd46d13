"""Map age and gender to the stage of every ossification center, the relationship that a network has to learn.

In: an age in months and a gender.
Out: one stage per center.
Invariant: stages never decrease with age, and from 6 months on a girl is never behind a boy of the same age.

Ages follow Greulich and Pyle as tabulated by Gilsanz and Ratib, Hand Bone Age (2005), and, for the first appearance,
the medians of Garn, Rohmann and Silverman, Medical Radiography and Photography 43 (1967). Stages between the
tabulated events are interpolated.

Stages of an epiphysis: 1 appears, 2 half as wide as the shaft, 3 as wide as the shaft, 4 caps the shaft, 5 starts to
fuse, 6 fused, 7 the scar of the plate has faded. Stages of a carpal: 1 appears, 2 has 0.6 of its adult size, 3 adult.
"""

import numpy as np

from wds_bone.labels.values import Gender
from wds_bone.phantom.randomness import draw_normal

APPEARS, HALF_WIDTH, FULL_WIDTH, CAPS, FUSES, FUSED, FADED = range(1, 8)
NEVER = float("nan")
FADING_MONTHS = 18.0

# Event ages in months: appears, half width, full width, caps, starts to fuse, fused.
EPIPHYSES: dict[str, dict[Gender, tuple[float, ...]]] = {
    "DP1": {"F": (13, 36, 60, 132, 153, 164), "M": (16, 54, 96, 168, 176, 187)},
    "DP2": {"F": (30, 36, 60, 132, 154, 165), "M": (38, 54, 96, 168, 177, 188)},
    "DP3": {"F": (20, 36, 60, 132, 153, 164), "M": (26, 54, 96, 168, 176, 187)},
    "DP4": {"F": (20, 36, 60, 132, 154, 165), "M": (26, 54, 96, 168, 177, 188)},
    "DP5": {"F": (25, 36, 60, 132, 154, 165), "M": (38, 54, 96, 168, 177, 188)},
    "MP2": {"F": (18, 36, 108, 132, 160, 178), "M": (28, 50, 144, 168, 185, 202)},
    "MP3": {"F": (16, 36, 108, 132, 161, 179), "M": (25, 50, 144, 168, 186, 203)},
    "MP4": {"F": (16, 36, 108, 132, 161, 179), "M": (25, 50, 144, 168, 186, 203)},
    "MP5": {"F": (28, 36, 120, 132, 161, 179), "M": (43, 50, 156, 168, 186, 203)},
    "PP1": {"F": (22, 30, 108, 132, 160, 178), "M": (33, 40, 156, 168, 186, 202)},
    "PP2": {"F": (10.5, 24, 108, 132, 159, 177), "M": (16, 30, 132, 168, 185, 201)},
    "PP3": {"F": (10.5, 24, 108, 132, 159, 177), "M": (16, 30, 156, 168, 185, 201)},
    "PP4": {"F": (10.5, 24, 108, 132, 159, 177), "M": (16, 30, 156, 168, 185, 201)},
    "PP5": {"F": (16, 24, 108, 132, 158, 176), "M": (23, 30, 156, 168, 184, 200)},
    "MC1": {"F": (22, 40, 126, 156, 157, 168), "M": (31, 54, 150, 180, 181, 192)},
    "MC2": {"F": (12.5, 40, 132, NEVER, 160, 179), "M": (19, 52, 156, NEVER, 189, 203)},
    "MC3": {"F": (12.5, 40, 132, NEVER, 160, 179), "M": (19, 52, 156, NEVER, 189, 203)},
    "MC4": {"F": (15, 40, 132, NEVER, 160, 179), "M": (23, 52, 156, NEVER, 189, 203)},
    "MC5": {"F": (17, 40, 132, NEVER, 160, 179), "M": (25, 52, 156, NEVER, 189, 203)},
    "ulna": {"F": (66, 100, 150, NEVER, 178, 196), "M": (83, 116, 180, NEVER, 203, 218)},
    "radius": {"F": (10, 30, 120, 144, 183, 204), "M": (13, 40, 156, 180, 207, 226)},
}

# Event ages in months: appears, 0.6 of the adult size, adult.
CARPALS: dict[str, dict[Gender, tuple[float, ...]]] = {
    "capitate": {"F": (2, 38, 156), "M": (3, 48, 180)},
    "hamate": {"F": (2, 38, 156), "M": (4, 48, 180)},
    "triquetrum": {"F": (21, 57, 156), "M": (30, 74, 180)},
    "lunate": {"F": (32, 68, 156), "M": (46, 86, 180)},
    "trapezium": {"F": (48, 84, 156), "M": (62, 105, 180)},
    "scaphoid": {"F": (49, 85, 156), "M": (67, 106, 180)},
    "trapezoid": {"F": (50, 86, 156), "M": (70, 107, 180)},
    "pisiform": {"F": (108, 144, 156), "M": (124, 168, 180)},
}

# Maturity signs, staged like a carpal: the hook of the hamate, the adductor sesamoid of the thumb, the two styloids.
SIGNS: dict[str, dict[Gender, tuple[float, ...]]] = {
    "hook": {"F": (124, 140, 156), "M": (144, 164, 180)},
    "sesamoid": {"F": (130, 148, 168), "M": (154, 172, 192)},
    "radial_styloid": {"F": (72, 96, 144), "M": (84, 118, 180)},
    "ulnar_styloid": {"F": (84, 108, 150), "M": (104, 132, 180)},
}

# A boy at an age in BOY_MONTHS is as mature as a girl at the corresponding age in GIRL_MONTHS.
GIRL_MONTHS = (0.0, 6.0, 12.0, 24.0, 36.0, 48.0, 60.0, 72.0, 96.0, 120.0, 132.0, 144.0, 156.0, 168.0, 180.0, 228.0)
BOY_MONTHS = (0.0, 8.0, 16.5, 29.0, 46.0, 63.0, 78.0, 91.0, 118.0, 144.0, 157.0, 168.5, 180.0, 192.0, 204.0, 252.0)

REGION_SD_MONTHS = 4.0 / 2**0.5  # per region, so that the difference between carpals and tubular bones has an SD of 4
CENTER_SD_MONTHS = 2.5
FULL_ASYNCHRONY_MONTHS = 36.0  # below this age the asynchrony is proportional to the age


def girl_equivalent(age_months: float, gender: Gender) -> float:
    """Return the age in months at which a girl is equally mature: the maturity scale common to both genders."""
    return age_months if gender == "F" else float(np.interp(age_months, BOY_MONTHS, GIRL_MONTHS))


def stages_at(age_months: float, gender: Gender, *, seed: int | None = None) -> dict[str, float]:
    """Return the stage of every center; 0 means that it has not appeared yet.

    Args:
        age_months: the bone age.
        gender: "F" or "M".
        seed: seed of the natural asynchrony between centers; None for no asynchrony.
    """
    epiphyses = {
        name: _stage(_center_age(age_months, "tubular", name, seed), (*ages[gender], ages[gender][-1] + FADING_MONTHS))
        for name, ages in EPIPHYSES.items()
    }
    carpals = {
        name: _stage(_center_age(age_months, "carpal", name, seed), ages[gender])
        for name, ages in (CARPALS | SIGNS).items()
    }
    return epiphyses | carpals


def _center_age(age_months: float, region: str, center: str, seed: int | None) -> float:
    if seed is None:
        return age_months
    shift = draw_normal(seed, f"region {region}", sd=REGION_SD_MONTHS)
    # The name keeps this spelling because it is hashed: another one would change every synthetic hand.
    shift += draw_normal(seed, f"centre {center}", sd=CENTER_SD_MONTHS)
    return age_months + shift * min(1.0, age_months / FULL_ASYNCHRONY_MONTHS)


def _stage(age_months: float, event_ages: tuple[float, ...]) -> float:
    events = [(age, stage) for stage, age in enumerate(event_ages, start=1) if age == age]
    ages, stages = zip(*events, strict=True)
    return float(np.interp(age_months, ages, stages, left=0.0))
