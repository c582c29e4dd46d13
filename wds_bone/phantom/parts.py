"""The positioned parts of a hand, built by anatomy.py and drawn by radiograph.py.

Invariant: a part holds everything needed to draw it, in mm and radians, in the coordinates of dimensions.py.
"""

from dataclasses import dataclass
from math import cos, sin

from wds_bone.phantom.dimensions import RoundDimensions, TubularDimensions


@dataclass(frozen=True)
class Tubular:
    """A positioned tubular bone: (x, y) is the center of its growing end, and `angle` points to the other end."""

    name: str
    adult: TubularDimensions
    x: float
    y: float
    angle: float  # radians
    length: float  # mm
    width_scale: float
    stage: float
    slant: float  # mm by which the joint face rises toward the thumb
    robustness: float  # width of the shaft relative to the average
    cortex: float  # thickness as a fraction of the radius of the shaft

    def point_at(self, along: float) -> tuple[float, float]:
        """Return (x, y) of the point on the axis `along` mm from the growing end."""
        return self.x + along * sin(self.angle), self.y + along * cos(self.angle)

    @property
    def half_width(self) -> float:
        """Half the scaled adult width of the growing end, in mm."""
        return 0.5 * self.adult.growing_end * self.width_scale

    @property
    def plate(self) -> float:
        """Distance from the growing end to the middle of the growth plate, in mm."""
        return self.adult.epiphysis * self.width_scale


@dataclass(frozen=True)
class Round:
    """A positioned carpal bone or maturity sign."""

    name: str
    adult: RoundDimensions
    x: float
    y: float
    scale: float
    stage: float


@dataclass(frozen=True)
class SoftTissue:
    """A tapered capsule of soft tissue from (x, y) along `angle`; all in mm and radians."""

    x: float
    y: float
    angle: float
    length: float
    start_radius: float
    end_radius: float
