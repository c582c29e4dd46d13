"""The hand in millimeters: every bone with its place, its direction and how far it has grown.

In: stages, hand length, pose and physique. Out: a `Skeleton` in the coordinates of forms.py.
Invariant: the maturity of a bone is in its stage alone; length, pose and physique only place and scale it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import cos, pi, radians, sin

from wds_bone.phantom.chance import draw_normal
from wds_bone.phantom.forms import (
    ADULT_FINGER_RATIO,
    ADULT_MM,
    FOREARM,
    GROWS_AT_HEAD,
    RAYS,
    ROUND,
    TUBULAR,
)
from wds_bone.phantom.parts import Flesh, Round, Tubular
from wds_bone.phantom.soft_tissue import sheathe

JOINT_MM = 1.2
THUMB = 1
ADULT_STAGE = 3.0  # of a carpal or a sign
WIDTH_EXPONENT = 0.85  # infant bones are relatively stout
LENGTH_SD = 0.02
BEND_SD_DEGREES = 1.5


@dataclass(frozen=True)
class Skeleton:
    """All that casts a shadow, in mm."""

    tubular: tuple[Tubular, ...]
    round: tuple[Round, ...]
    flesh: tuple[Flesh, ...]
    length: float  # of the hand
    forearm: float  # length of the visible part


@dataclass(frozen=True)
class Physique:
    """What differs between people and, as a cue to the gender, a little between girls and boys."""

    finger_ratio: float = 0.9625  # length of finger II to finger IV
    robustness: float = 1.0  # width of the shafts
    cortex: float = 1.0  # thickness of the cortex


@dataclass(frozen=True)
class Build:
    """All that shapes one skeleton."""

    stages: Mapping[str, float]
    length_mm: float  # of the hand
    pose: Mapping[str, float]  # the nuisances
    physique: Physique
    seed: int  # of the lengths and bends of single bones

    @property
    def scale(self) -> float:
        """Length over that of the average adult."""
        return self.length_mm / ADULT_MM

    @property
    def width_scale(self) -> float:
        """Width of bones over that of the average adult."""
        return float(self.scale**WIDTH_EXPONENT) * self.pose["stoutness"]


def build_skeleton(build: Build) -> Skeleton:
    """Return the skeleton, and the flesh around it."""
    rays = [tuple(_ray_bones(build, ray)) for ray in RAYS]
    forearm = tuple(_forearm_bones(build))
    return Skeleton(
        tubular=tuple(bone for ray in rays for bone in ray) + forearm,
        round=tuple(_round_bones(build, thumb=rays[0][0])),
        flesh=tuple(sheathe(rays, forearm, scale=build.scale, girth=build.width_scale * build.pose["flesh"])),
        length=build.length_mm,
        forearm=build.pose["forearm"] * build.length_mm,
    )


def _ray_bones(build: Build, ray: int) -> Iterator[Tubular]:
    base_x, base_y, own_angle, finger_angle, spread_share, names = RAYS[ray]
    x, y = base_x * build.scale, base_y * build.scale
    spread = spread_share * build.pose["spread_degrees"]
    thumb = build.pose["thumb_degrees"] if ray == THUMB else 0.0
    for place, name in enumerate(names):
        bend = draw_normal(build.seed, f"bend {name}", sd=BEND_SD_DEGREES)
        angle = radians(thumb + bend + (own_angle + 0.4 * spread if place == 0 else finger_angle + spread))
        length = _bone_length(build, name)
        reach = length + JOINT_MM * build.scale
        tip_x, tip_y = x + length * sin(angle), y + length * cos(angle)
        start = (tip_x, tip_y, angle + pi) if name in GROWS_AT_HEAD else (x, y, angle)
        yield _grow(build, name, start, length)
        x, y = x + reach * sin(angle), y + reach * cos(angle)


def _bone_length(build: Build, name: str) -> float:
    own = draw_normal(build.seed, f"length {name}", 1.0, LENGTH_SD)
    ratio = build.physique.finger_ratio / ADULT_FINGER_RATIO if name in ("PP2", "MP2", "DP2") else 1.0
    return TUBULAR[name].length * build.scale * own * ratio


def _forearm_bones(build: Build) -> Iterator[Tubular]:
    for name, (x, y, degrees) in FOREARM.items():
        place = (x * build.width_scale, y * build.scale, radians(degrees))
        yield _grow(build, name, place, TUBULAR[name].length * build.scale)


def _grow(build: Build, name: str, place: tuple[float, float, float], length: float) -> Tubular:
    form = TUBULAR[name]
    return Tubular(
        name,
        form,
        *place,
        length=length,
        width_scale=build.width_scale,
        stage=build.stages[name],
        slant=form.slant * build.width_scale * min(1.0, build.stages["radial_styloid"] / ADULT_STAGE),
        robustness=build.physique.robustness,
        cortex=form.cortex * build.physique.cortex,
    )


def _round_bones(build: Build, *, thumb: Tubular) -> Iterator[Round]:
    for name, form in ROUND.items():
        near_x, near_y = thumb.point_at(thumb.length) if name == "sesamoid" else (0.0, 0.0)
        stage = build.stages[name]
        yield Round(name, form, near_x + form.x * build.scale, near_y + form.y * build.scale, build.scale, stage)
