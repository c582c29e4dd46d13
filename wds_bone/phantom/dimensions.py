"""Tables of the dimensions of an adult hand in mm, and of the hand length by age.

Invariant: the dimensions are those of the average adult; anatomy.py scales them.

Coordinates, looking at the back of a left hand: the origin is the middle of the wrist crease, x points toward the
thumb, y toward the fingertips, and angles run from y toward x.
"""

from dataclasses import dataclass

import numpy as np

from wds_bone.labels.values import Gender

ADULT_MM = 198.0  # from the wrist crease to the tip of finger III
ADULT_FINGER_RATIO = 0.935  # length of finger II over that of finger IV, from the lengths below

# Hand length by age: birth to 24 months from the fit of the MIMo growth model, 1.808 ln(months + 4.065) + 3.860 cm;
# later ages from Snyder et al., Anthropometry of Infants, Children and Youths (1977).
LENGTH_MONTHS = (0, 6, 12, 18, 24, 33, 48, 60, 72, 84, 96, 108, 120, 132, 144, 156, 168, 180, 192, 204, 219)
LENGTH_MM: dict[Gender, tuple[int, ...]] = {
    "F": (64, 80, 89, 94, 99, 103, 115, 120, 126, 131, 137, 144, 150, 157, 163, 169, 170, 172, 172, 172, 173),
    "M": (64, 80, 89, 94, 99, 107, 114, 120, 129, 134, 139, 145, 151, 155, 162, 169, 178, 182, 189, 189, 192),
}


@dataclass(frozen=True)
class TubularDimensions:
    """Adult dimensions of a tubular bone in mm; the growing end is the one with the epiphysis."""

    length: float
    growing_end: float  # width, like the next two
    waist: float
    other_end: float
    epiphysis: float  # thickness of its zone, up to the middle of the plate
    cup: float  # depth of the hollow in the joint face; negative if the face is convex
    roundness: float  # corner radius of the growing end, in half widths
    cortex: float  # thickness in the shaft, as a fraction of its radius
    slant: float = 0.0  # rise of the joint face toward the thumb


TUBULAR: dict[str, TubularDimensions] = {
    "DP1": TubularDimensions(22, 12.5, 6.5, 8.0, 5.0, 0.6, 0.35, 0.45),
    "DP2": TubularDimensions(16, 9.5, 4.6, 6.4, 4.0, 0.5, 0.35, 0.45),
    "DP3": TubularDimensions(17, 10.0, 5.0, 6.8, 4.3, 0.5, 0.35, 0.45),
    "DP4": TubularDimensions(17, 9.5, 4.6, 6.4, 4.1, 0.5, 0.35, 0.45),
    "DP5": TubularDimensions(16, 8.2, 4.0, 5.4, 3.7, 0.5, 0.35, 0.45),
    "MP2": TubularDimensions(24, 12.2, 7.4, 9.4, 5.2, 0.7, 0.35, 0.38),
    "MP3": TubularDimensions(28, 12.6, 7.8, 9.8, 5.4, 0.7, 0.35, 0.38),
    "MP4": TubularDimensions(27, 12.0, 7.2, 9.2, 5.2, 0.7, 0.35, 0.38),
    "MP5": TubularDimensions(20, 10.2, 6.0, 7.8, 4.5, 0.7, 0.35, 0.38),
    "PP1": TubularDimensions(32, 14.5, 8.6, 11.5, 6.3, 0.7, 0.35, 0.36),
    "PP2": TubularDimensions(41, 14.6, 8.8, 11.2, 6.5, 0.8, 0.35, 0.36),
    "PP3": TubularDimensions(46, 15.0, 9.2, 11.6, 6.7, 0.8, 0.35, 0.36),
    "PP4": TubularDimensions(43, 14.2, 8.6, 11.0, 6.5, 0.8, 0.35, 0.36),
    "PP5": TubularDimensions(34, 12.4, 7.2, 9.0, 5.8, 0.8, 0.35, 0.36),
    "MC1": TubularDimensions(46, 15.0, 10.2, 14.0, 6.9, 0.5, 0.4, 0.36),
    "MC2": TubularDimensions(69, 15.0, 8.4, 13.5, 9.5, -1.0, 0.9, 0.46),
    "MC3": TubularDimensions(66, 15.0, 8.6, 12.5, 9.5, -1.0, 0.9, 0.42),
    "MC4": TubularDimensions(58, 13.4, 7.0, 10.5, 8.8, -1.0, 0.9, 0.40),
    "MC5": TubularDimensions(54, 13.0, 7.4, 12.0, 8.6, -1.0, 0.9, 0.40),
    "radius": TubularDimensions(120, 29.0, 14.5, 14.0, 8.5, 1.0, 0.30, 0.34, 3.2),
    "ulna": TubularDimensions(120, 16.0, 11.5, 13.0, 6.5, 0.0, 0.45, 0.36),
}

GROWS_AT_HEAD = ("MC2", "MC3", "MC4", "MC5")

# ray: base (x, y) of its metacarpal in mm, angles of the metacarpal and of the finger in degrees, fraction of the
# spread angle that applies to it, bones from the base to the tip.
RAYS: dict[int, tuple[float, float, float, float, float, tuple[str, ...]]] = {
    1: (26.0, 23.5, 0.0, -6.0, 0.0, ("MC1", "PP1", "DP1")),
    2: (11.0, 32.0, 7.0, 5.0, 0.8, ("MC2", "PP2", "MP2", "DP2")),
    3: (0.8, 33.0, 0.0, 0.0, 0.05, ("MC3", "PP3", "MP3", "DP3")),
    4: (-9.0, 31.5, -8.0, -5.0, -0.7, ("MC4", "PP4", "MP4", "DP4")),
    5: (-17.0, 29.0, -17.0, -12.0, -1.7, ("MC5", "PP5", "MP5", "DP5")),
}

# Forearm bones: center (x, y) of the distal end in mm, angle toward the elbow in degrees.
FOREARM: dict[str, tuple[float, float, float]] = {"radius": (8.5, 3.0, 181.0), "ulna": (-17.0, -1.5, 178.5)}


@dataclass(frozen=True)
class RoundDimensions:
    """Adult position and outline of a carpal bone or a round maturity sign, in mm."""

    x: float
    y: float
    radii: tuple[float, ...]  # at 0, 45, ... 315 degrees from x toward y
    depth: float  # along the beam


ROUND: dict[str, RoundDimensions] = {
    "capitate": RoundDimensions(1.0, 21.0, (6.4, 8.6, 12.2, 9.2, 6.8, 8.4, 11.6, 8.6), 16.0),
    "hamate": RoundDimensions(-12.0, 22.0, (6.6, 8.8, 10.2, 9.8, 7.0, 6.6, 9.4, 9.4), 15.0),
    "triquetrum": RoundDimensions(-15.5, 10.5, (7.6, 5.8, 5.4, 7.2, 7.4, 6.0, 5.6, 7.2), 13.0),
    "lunate": RoundDimensions(-3.0, 7.5, (7.6, 7.4, 5.6, 7.2, 7.8, 7.6, 7.4, 8.0), 14.0),
    "trapezium": RoundDimensions(21.0, 19.0, (7.6, 7.6, 7.2, 6.8, 6.6, 7.2, 6.8, 7.2), 14.0),
    "scaphoid": RoundDimensions(11.5, 10.0, (6.4, 10.8, 7.6, 6.0, 7.0, 10.2, 6.8, 5.8), 14.0),
    "trapezoid": RoundDimensions(12.0, 24.5, (5.8, 6.8, 7.2, 6.6, 6.0, 6.8, 6.4, 6.4), 14.0),
    "pisiform": RoundDimensions(-17.0, 9.0, (4.4, 4.8, 5.2, 4.6, 4.4, 4.8, 5.2, 4.6), 7.0),
    "hook": RoundDimensions(-11.5, 19.5, (2.2, 2.6, 3.2, 2.6, 2.2, 2.6, 3.2, 2.6), 5.0),
    "ulnar_styloid": RoundDimensions(-22.5, -0.5, (2.0, 2.4, 3.8, 2.4, 2.0, 2.6, 4.4, 2.6), 5.0),
    # Relative to the head of MC1.
    "sesamoid": RoundDimensions(-5.0, -2.0, (2.0, 2.2, 2.6, 2.2, 2.0, 2.2, 2.6, 2.2), 4.0),
}


@dataclass(frozen=True)
class SoftTissueDimensions:
    """Adult dimensions of the soft tissue around a tubular bone, in mm."""

    growing_end: float  # radius
    other_end: float  # radius
    before: float  # extent beyond the growing end
    after: float  # extent beyond the other end


SOFT_TISSUE: dict[str, SoftTissueDimensions] = {
    "DP": SoftTissueDimensions(8.0, 7.0, 1.0, 0.0),
    "MP": SoftTissueDimensions(9.0, 8.2, 1.0, 1.0),
    "PP": SoftTissueDimensions(10.5, 9.0, 4.0, 1.0),
    "MC": SoftTissueDimensions(10.4, 13.5, 12.0, 22.0),
    "MC1": SoftTissueDimensions(15.0, 12.0, 14.0, 2.0),
    "radius": SoftTissueDimensions(15.0, 21.0, 0.0, 0.0),
    "ulna": SoftTissueDimensions(11.5, 20.0, 0.0, 0.0),
}
# Soft tissue at the wrist: x, y, length toward the fingers, radius.
WRIST_SOFT_TISSUE: tuple[tuple[float, float, float, float], ...] = ((-14.0, -6.0, 34.0, 15.0), (9.5, -6.0, 30.0, 16.0))
FINGER_GIRTH = {"PP1": 1.15, "DP1": 1.15, "PP5": 0.87, "MP5": 0.86, "DP5": 0.85}  # where it differs from 1
WEB_RADIUS_MM = 10.0


def hand_length_mm(age_months: float, gender: Gender) -> float:
    """Return the median distance from the wrist crease to the tip of finger III."""
    return float(np.interp(age_months, LENGTH_MONTHS, LENGTH_MM[gender]))
