"""The flesh around the bones: a sheath along every one, and what fills wrist and web.

In: the rays and the forearm, placed. Out: capsules in mm.
Invariant: flesh follows place and width of the bones, never their stages.
"""

from collections.abc import Iterator, Sequence
from math import atan2, hypot

from wds_bone.phantom.forms import FINGER_GIRTH, FLESH, WEB_RADIUS_MM, WRIST_FLESH, FleshForm
from wds_bone.phantom.parts import Flesh, Tubular

Ray = tuple[Tubular, ...]


def sheathe(rays: Sequence[Ray], forearm: Ray, *, scale: float, girth: float) -> Iterator[Flesh]:
    """Return the soft tissue of the hand; `scale` and `girth` are its length and width over the average adult's."""
    for bone in (bone for ray in (*rays, forearm) for bone in ray):
        form = FLESH[bone.name if bone.name in FLESH else bone.name[:2]]
        yield _sheath(bone, form, scale, girth * FINGER_GIRTH.get(bone.name, 1.0))
    for x, y, length, radius in WRIST_FLESH:
        yield Flesh(x * scale, y * scale, 0.0, length * scale, radius * girth, radius * girth)
    yield _web(rays[0][0], rays[1][0], WEB_RADIUS_MM * girth)


def _sheath(bone: Tubular, form: FleshForm, scale: float, girth: float) -> Flesh:
    before, after = form.before * scale, form.after * scale
    length = before + bone.length + after
    return Flesh(*bone.point_at(-before), bone.angle, length, form.growing_end * girth, form.other_end * girth)


def _web(thumb: Tubular, index: Tubular, radius: float) -> Flesh:
    x, y = thumb.point_at(0.7 * thumb.length)
    to_x, to_y = index.point_at(0.6 * index.length)
    return Flesh(x, y, atan2(to_x - x, to_y - y), hypot(to_x - x, to_y - y), radius, radius)
