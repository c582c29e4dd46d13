"""The parts of a hand, placed: what anatomy.py builds and radiograph.py draws.

Invariant: a part says all about its own shadow, in mm and radians, in the coordinates of forms.py.
"""

from dataclasses import dataclass
from math import cos, sin

from wds_bone.phantom.forms import RoundForm, TubularForm


@dataclass(frozen=True)
class Tubular:
    """A bone with a growing end, placed: (x, y) is the middle of that end, `angle` points to the other one."""

    name: str
    form: TubularForm
    x: float
    y: float
    angle: float  # radians
    length: float  # mm
    width_scale: float
    stage: float
    slant: float  # mm by which the joint face rises toward the thumb
    robustness: float  # width of the shaft over that of the average
    cortex: float  # share of the shaft's radius

    def point_at(self, along: float) -> tuple[float, float]:
        """Return (x, y) of the point that lies `along` mm from the growing end."""
        return self.x + along * sin(self.angle), self.y + along * cos(self.angle)

    @property
    def half_width(self) -> float:
        """Half the adult width in mm of the growing end, scaled."""
        return 0.5 * self.form.growing_end * self.width_scale

    @property
    def plate(self) -> float:
        """Distance in mm of the middle of the growth plate from the growing end."""
        return self.form.epiphysis * self.width_scale


@dataclass(frozen=True)
class Round:
    """A carpal bone or a sign, placed."""

    name: str
    form: RoundForm
    x: float
    y: float
    scale: float
    stage: float


@dataclass(frozen=True)
class Flesh:
    """A tapered capsule of soft tissue from (x, y) along `angle`; all in mm and radians."""

    x: float
    y: float
    angle: float
    length: float
    start_radius: float
    end_radius: float
