"""Soft tissue: a capsule around every bone, two for the wrist and one for the thumb web.

In: the positioned bones of the rays and the forearm.
Out: capsules in mm.
Invariant: soft tissue depends on the position and width of the bones, never on their stages.
"""

from collections.abc import Iterator, Sequence
from math import atan2, hypot

from wds_bone.phantom.dimensions import (
    FINGER_GIRTH,
    SOFT_TISSUE,
    WEB_RADIUS_MM,
    WRIST_SOFT_TISSUE,
    SoftTissueDimensions,
)
from wds_bone.phantom.parts import SoftTissue, Tubular

Ray = tuple[Tubular, ...]


def soft_tissue_parts(rays: Sequence[Ray], forearm: Ray, *, scale: float, girth: float) -> Iterator[SoftTissue]:
    """Yield the soft tissue of the hand; `scale` and `girth` are its length and width relative to the average adult."""
    for bone in (bone for ray in (*rays, forearm) for bone in ray):
        adult = SOFT_TISSUE[bone.name if bone.name in SOFT_TISSUE else bone.name[:2]]
        yield _around_bone(bone, adult, scale, girth * FINGER_GIRTH.get(bone.name, 1.0))
    for x, y, length, radius in WRIST_SOFT_TISSUE:
        yield SoftTissue(x * scale, y * scale, 0.0, length * scale, radius * girth, radius * girth)
    yield _web(rays[0][0], rays[1][0], WEB_RADIUS_MM * girth)


def _around_bone(bone: Tubular, adult: SoftTissueDimensions, scale: float, girth: float) -> SoftTissue:
    before, after = adult.before * scale, adult.after * scale
    length = before + bone.length + after
    return SoftTissue(*bone.point_at(-before), bone.angle, length, adult.growing_end * girth, adult.other_end * girth)


def _web(thumb: Tubular, index: Tubular, radius: float) -> SoftTissue:
    x, y = thumb.point_at(0.7 * thumb.length)
    to_x, to_y = index.point_at(0.6 * index.length)
    return SoftTissue(x, y, atan2(to_x - x, to_y - y), hypot(to_x - x, to_y - y), radius, radius)
