"""Adult measures of the hand in millimeters, and its length at every age: tables only.

Seen from the back of a left hand: the origin in the middle of the wrist crease, x toward the thumb, y toward the
fingertips, angles from y toward x. Invariant: a form is that of the average adult; anatomy.py scales it.
"""

from dataclasses import dataclass

import numpy as np

from wds_bone.labels.values import Gender

ADULT_MM = 198.0  # wrist crease to the tip of finger III
ADULT_FINGER_RATIO = 0.935  # finger II to finger IV, of the lengths below

# Hand length by age: birth to 24 months from the fit of the MIMo growth model, 1.808 ln(months + 4.065) + 3.860 cm;
# later ages from Snyder and others, Anthropometry of Infants, Children and Youths (1977).
LENGTH_MONTHS = (0, 6, 12, 18, 24, 33, 48, 60, 72, 84, 96, 108, 120, 132, 144, 156, 168, 180, 192, 204, 219)
LENGTH_MM: dict[Gender, tuple[int, ...]] = {
    "F": (64, 80, 89, 94, 99, 103, 115, 120, 126, 131, 137, 144, 150, 157, 163, 169, 170, 172, 172, 172, 173),
    "M": (64, 80, 89, 94, 99, 107, 114, 120, 129, 134, 139, 145, 151, 155, 162, 169, 178, 182, 189, 189, 192),
}


@dataclass(frozen=True)
class TubularForm:
    """Adult measures in mm; the growing end is the one with the epiphysis."""

    length: float
    growing_end: float  # width
    waist: float
    other_end: float
    epiphysis: float  # thickness of the zone of the epiphysis, up to the plate
    cup: float  # how far the joint face is hollow; negative: bulges
    roundness: float  # of the growing end, in half widths
    cortex: float  # of the shaft, share of the radius
    slant: float = 0.0  # how far the joint face rises from the little finger's side to the thumb's


TUBULAR: dict[str, TubularForm] = {
    "DP1": TubularForm(22, 12.5, 6.5, 8.0, 5.0, 0.6, 0.35, 0.45),
    "DP2": TubularForm(16, 9.5, 4.6, 6.4, 4.0, 0.5, 0.35, 0.45),
    "DP3": TubularForm(17, 10.0, 5.0, 6.8, 4.3, 0.5, 0.35, 0.45),
    "DP4": TubularForm(17, 9.5, 4.6, 6.4, 4.1, 0.5, 0.35, 0.45),
    "DP5": TubularForm(16, 8.2, 4.0, 5.4, 3.7, 0.5, 0.35, 0.45),
    "MP2": TubularForm(24, 12.2, 7.4, 9.4, 5.2, 0.7, 0.35, 0.38),
    "MP3": TubularForm(28, 12.6, 7.8, 9.8, 5.4, 0.7, 0.35, 0.38),
    "MP4": TubularForm(27, 12.0, 7.2, 9.2, 5.2, 0.7, 0.35, 0.38),
    "MP5": TubularForm(20, 10.2, 6.0, 7.8, 4.5, 0.7, 0.35, 0.38),
    "PP1": TubularForm(32, 14.5, 8.6, 11.5, 6.3, 0.7, 0.35, 0.36),
    "PP2": TubularForm(41, 14.6, 8.8, 11.2, 6.5, 0.8, 0.35, 0.36),
    "PP3": TubularForm(46, 15.0, 9.2, 11.6, 6.7, 0.8, 0.35, 0.36),
    "PP4": TubularForm(43, 14.2, 8.6, 11.0, 6.5, 0.8, 0.35, 0.36),
    "PP5": TubularForm(34, 12.4, 7.2, 9.0, 5.8, 0.8, 0.35, 0.36),
    "MC1": TubularForm(46, 15.0, 10.2, 14.0, 6.9, 0.5, 0.4, 0.36),
    "MC2": TubularForm(69, 15.0, 8.4, 13.5, 9.5, -1.0, 0.9, 0.46),
    "MC3": TubularForm(66, 15.0, 8.6, 12.5, 9.5, -1.0, 0.9, 0.42),
    "MC4": TubularForm(58, 13.4, 7.0, 10.5, 8.8, -1.0, 0.9, 0.40),
    "MC5": TubularForm(54, 13.0, 7.4, 12.0, 8.6, -1.0, 0.9, 0.40),
    "radius": TubularForm(120, 29.0, 14.5, 14.0, 8.5, 1.0, 0.30, 0.34, 3.2),
    "ulna": TubularForm(120, 16.0, 11.5, 13.0, 6.5, 0.0, 0.45, 0.36),
}

GROWS_AT_HEAD = ("MC2", "MC3", "MC4", "MC5")

# ray: base of its metacarpal in mm, its own direction and that of its finger in degrees, share of the finger spread,
# bones from the base to the tip.
RAYS: dict[int, tuple[float, float, float, float, float, tuple[str, ...]]] = {
    1: (26.0, 23.5, 0.0, -6.0, 0.0, ("MC1", "PP1", "DP1")),
    2: (11.0, 32.0, 7.0, 5.0, 0.8, ("MC2", "PP2", "MP2", "DP2")),
    3: (0.8, 33.0, 0.0, 0.0, 0.05, ("MC3", "PP3", "MP3", "DP3")),
    4: (-9.0, 31.5, -8.0, -5.0, -0.7, ("MC4", "PP4", "MP4", "DP4")),
    5: (-17.0, 29.0, -17.0, -12.0, -1.7, ("MC5", "PP5", "MP5", "DP5")),
}

# Forearm bones: middle of the distal end in mm, direction toward the elbow in degrees.
FOREARM: dict[str, tuple[float, float, float]] = {"radius": (8.5, 3.0, 181.0), "ulna": (-17.0, -1.5, 178.5)}


@dataclass(frozen=True)
class RoundForm:
    """A carpal bone or a round sign: adult place and outline in mm."""

    x: float
    y: float
    radii: tuple[float, ...]  # at 0, 45, ... 315 degrees from x toward y
    depth: float  # along the beam


ROUND: dict[str, RoundForm] = {
    "capitate": RoundForm(1.0, 21.0, (6.4, 8.6, 12.2, 9.2, 6.8, 8.4, 11.6, 8.6), 16.0),
    "hamate": RoundForm(-12.0, 22.0, (6.6, 8.8, 10.2, 9.8, 7.0, 6.6, 9.4, 9.4), 15.0),
    "triquetrum": RoundForm(-15.5, 10.5, (7.6, 5.8, 5.4, 7.2, 7.4, 6.0, 5.6, 7.2), 13.0),
    "lunate": RoundForm(-3.0, 7.5, (7.6, 7.4, 5.6, 7.2, 7.8, 7.6, 7.4, 8.0), 14.0),
    "trapezium": RoundForm(21.0, 19.0, (7.6, 7.6, 7.2, 6.8, 6.6, 7.2, 6.8, 7.2), 14.0),
    "scaphoid": RoundForm(11.5, 10.0, (6.4, 10.8, 7.6, 6.0, 7.0, 10.2, 6.8, 5.8), 14.0),
    "trapezoid": RoundForm(12.0, 24.5, (5.8, 6.8, 7.2, 6.6, 6.0, 6.8, 6.4, 6.4), 14.0),
    "pisiform": RoundForm(-17.0, 9.0, (4.4, 4.8, 5.2, 4.6, 4.4, 4.8, 5.2, 4.6), 7.0),
    "hook": RoundForm(-11.5, 19.5, (2.2, 2.6, 3.2, 2.6, 2.2, 2.6, 3.2, 2.6), 5.0),
    "ulnar_styloid": RoundForm(-22.5, -0.5, (2.0, 2.4, 3.8, 2.4, 2.0, 2.6, 4.4, 2.6), 5.0),
    "sesamoid": RoundForm(-5.0, -2.0, (2.0, 2.2, 2.6, 2.2, 2.0, 2.2, 2.6, 2.2), 4.0),  # from the head of MC1
}


@dataclass(frozen=True)
class FleshForm:
    """Soft tissue along a tubular bone, adult measures in mm."""

    growing_end: float  # radius
    other_end: float
    before: float  # how far it reaches beyond the growing end
    after: float


FLESH: dict[str, FleshForm] = {
    "DP": FleshForm(8.0, 7.0, 1.0, 0.0),
    "MP": FleshForm(9.0, 8.2, 1.0, 1.0),
    "PP": FleshForm(10.5, 9.0, 4.0, 1.0),
    "MC": FleshForm(10.4, 13.5, 12.0, 22.0),
    "MC1": FleshForm(15.0, 12.0, 14.0, 2.0),
    "radius": FleshForm(15.0, 21.0, 0.0, 0.0),
    "ulna": FleshForm(11.5, 20.0, 0.0, 0.0),
}
# Soft tissue beside the wrist: x, y, length toward the fingers, radius.
WRIST_FLESH: tuple[tuple[float, float, float, float], ...] = ((-14.0, -6.0, 34.0, 15.0), (9.5, -6.0, 30.0, 16.0))
FINGER_GIRTH = {"PP1": 1.15, "DP1": 1.15, "PP5": 0.87, "MP5": 0.86, "DP5": 0.85}  # where it is not 1
WEB_RADIUS_MM = 10.0


def hand_length_mm(age_months: float, gender: Gender) -> float:
    """Return the median distance from the wrist crease to the tip of finger III."""
    return float(np.interp(age_months, LENGTH_MONTHS, LENGTH_MM[gender]))
