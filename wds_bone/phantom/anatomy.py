"""Build the skeleton of a hand in mm: the position, direction, size and stage of every bone.

In: stages, hand length, pose and physique.
Out: a `Skeleton` in the coordinates of dimensions.py.
Invariant: only the stage of a bone shows its maturity; length, pose and physique only position and scale it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import cos, pi, radians, sin

from wds_bone.phantom.dimensions import (
    ADULT_FINGER_RATIO,
    ADULT_MM,
    FOREARM,
    GROWS_AT_HEAD,
    RAYS,
    ROUND,
    TUBULAR,
)
from wds_bone.phantom.parts import Round, SoftTissue, Tubular
from wds_bone.phantom.randomness import draw_normal
from wds_bone.phantom.soft_tissue import soft_tissue_parts

JOINT_MM = 1.2
THUMB = 1
ADULT_STAGE = 3.0  # of a carpal or a maturity sign
WIDTH_EXPONENT = 0.85  # infant bones are relatively stout
LENGTH_SD = 0.02
BEND_SD_DEGREES = 1.5


@dataclass(frozen=True)
class Skeleton:
    """All parts of a hand that attenuate the beam, in mm."""

    tubular: tuple[Tubular, ...]
    round: tuple[Round, ...]
    soft_tissue: tuple[SoftTissue, ...]
    length: float  # of the hand, from the wrist crease to the tip of finger III
    forearm: float  # length of the visible part


@dataclass(frozen=True)
class Physique:
    """Body proportions: they vary between people and, if gender cues are enabled, slightly between girls and boys."""

    finger_ratio: float = 0.9625  # length of finger II over that of finger IV
    robustness: float = 1.0  # width of the shafts relative to the average
    cortex: float = 1.0  # thickness of the cortex relative to the average


@dataclass(frozen=True)
class SkeletonSpec:
    """Everything that determines one skeleton."""

    stages: Mapping[str, float]
    length_mm: float  # of the hand
    pose: Mapping[str, float]  # values of the nuisances
    physique: Physique
    seed: int  # for the lengths and angles of individual bones

    @property
    def scale(self) -> float:
        """Hand length relative to the average adult."""
        return self.length_mm / ADULT_MM

    @property
    def width_scale(self) -> float:
        """Bone width relative to the average adult."""
        return float(self.scale**WIDTH_EXPONENT) * self.pose["stoutness"]


def build_skeleton(spec: SkeletonSpec) -> Skeleton:
    """Return the bones and the soft tissue around them."""
    rays = [tuple(_ray_bones(spec, ray)) for ray in RAYS]
    forearm = tuple(_forearm_bones(spec))
    return Skeleton(
        tubular=tuple(bone for ray in rays for bone in ray) + forearm,
        round=tuple(_round_bones(spec, thumb=rays[0][0])),
        soft_tissue=tuple(
            soft_tissue_parts(rays, forearm, scale=spec.scale, girth=spec.width_scale * spec.pose["flesh"])
        ),
        length=spec.length_mm,
        forearm=spec.pose["forearm"] * spec.length_mm,
    )


def _ray_bones(spec: SkeletonSpec, ray: int) -> Iterator[Tubular]:
    base_x, base_y, metacarpal_angle, finger_angle, spread_fraction, names = RAYS[ray]
    x, y = base_x * spec.scale, base_y * spec.scale
    spread = spread_fraction * spec.pose["spread_degrees"]
    thumb = spec.pose["thumb_degrees"] if ray == THUMB else 0.0
    for index, name in enumerate(names):
        bend = draw_normal(spec.seed, f"bend {name}", sd=BEND_SD_DEGREES)
        angle = radians(thumb + bend + (metacarpal_angle + 0.4 * spread if index == 0 else finger_angle + spread))
        length = _bone_length(spec, name)
        spacing = length + JOINT_MM * spec.scale
        tip_x, tip_y = x + length * sin(angle), y + length * cos(angle)
        placement = (tip_x, tip_y, angle + pi) if name in GROWS_AT_HEAD else (x, y, angle)
        yield _make_tubular(spec, name, placement, length)
        x, y = x + spacing * sin(angle), y + spacing * cos(angle)


def _bone_length(spec: SkeletonSpec, name: str) -> float:
    variation = draw_normal(spec.seed, f"length {name}", 1.0, LENGTH_SD)
    ratio = spec.physique.finger_ratio / ADULT_FINGER_RATIO if name in ("PP2", "MP2", "DP2") else 1.0
    return TUBULAR[name].length * spec.scale * variation * ratio


def _forearm_bones(spec: SkeletonSpec) -> Iterator[Tubular]:
    for name, (x, y, degrees) in FOREARM.items():
        placement = (x * spec.width_scale, y * spec.scale, radians(degrees))
        yield _make_tubular(spec, name, placement, TUBULAR[name].length * spec.scale)


def _make_tubular(spec: SkeletonSpec, name: str, placement: tuple[float, float, float], length: float) -> Tubular:
    adult = TUBULAR[name]
    return Tubular(
        name,
        adult,
        *placement,
        length=length,
        width_scale=spec.width_scale,
        stage=spec.stages[name],
        slant=adult.slant * spec.width_scale * min(1.0, spec.stages["radial_styloid"] / ADULT_STAGE),
        robustness=spec.physique.robustness,
        cortex=adult.cortex * spec.physique.cortex,
    )


def _round_bones(spec: SkeletonSpec, *, thumb: Tubular) -> Iterator[Round]:
    for name, adult in ROUND.items():
        near_x, near_y = thumb.point_at(thumb.length) if name == "sesamoid" else (0.0, 0.0)
        stage = spec.stages[name]
        yield Round(name, adult, near_x + adult.x * spec.scale, near_y + adult.y * spec.scale, spec.scale, stage)
