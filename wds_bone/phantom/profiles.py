"""Compute the profile of a bone, its half width along its axis, at a given stage.

In: a positioned bone with its stage.
Out: half widths in mm by distance from the growing end, with the growth plate open or closed.
Invariant: a profile depends only on the dimensions and the stage of the bone.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wds_bone.phantom.dimensions import RoundDimensions
from wds_bone.phantom.maturity import APPEARS, CAPS, FADED, FULL_WIDTH, FUSED, FUSES, HALF_WIDTH
from wds_bone.phantom.parts import Round, Tubular

Array = NDArray[Any]  # float32 wherever whole windows are computed, for speed

STEP_MM = 0.1
SHELL_MM = 0.7  # dense layer under the surface of every bone

# Distances from the growing end, as fractions of the length; the waist is in the middle.
SHAFT_KNOTS = (0.0, 0.10, 0.32, 0.60, 0.88, 1.0)

# By stage of an epiphysis: its width relative to the shaft, its thickness as a fraction of its zone, the exponent of
# its superellipse (2 is round, more is squarer), the weight of the adult outline, and the width of the plate in mm.
GROWTH_STAGES = (APPEARS, HALF_WIDTH, FULL_WIDTH, CAPS, FUSES, FUSED)
WIDTH_RATIO = (0.16, 0.50, 0.98, 1.05, 1.02, 1.0)
THICKNESS_FRACTION = (0.40, 0.66, 0.84, 0.97, 1.0, 1.0)
SUPERELLIPSE_EXPONENT = (2.0, 2.2, 2.8, 3.4, 3.5, 3.5)
ADULT_FRACTION = (0.0, 0.0, 0.35, 0.8, 1.0, 1.0)
PLATE_MM = (1.7, 1.5, 1.25, 1.0, 0.6, 0.5)

# Thickness of the cortex as a fraction of its maximum, by fraction of the length from the growing end.
CORTEX_KNOTS = (0.0, 0.12, 0.34, 0.62, 0.86, 1.0)
CORTEX_FRACTION = (0.0, 0.0, 0.85, 1.0, 0.25, 0.0)
SCAR_MM = 0.5

# By stage of a carpal: its size relative to the adult, and the weight of the adult outline.
ROUND_STAGES = (1.0, 2.0, 3.0)
ROUND_SIZE = (0.16, 0.62, 1.0)
ROUND_SHAPE = (0.0, 0.45, 1.0)
NUM_DIRECTIONS = 256
SMOOTHING_REACH = 12  # directions on either side


@dataclass(frozen=True)
class Profile:
    """Half widths in mm, one for every `STEP_MM` from the growing end."""

    outline: Array
    core: Array  # the outline minus the cortex and the shell


def profile_open(bone: Tubular) -> Profile:
    """Return the profile with an open growth plate, and without an epiphysis if it has not appeared yet."""
    adult, along = _adult_outline(bone), _axis_mm(bone)
    half_gap = 0.5 * _gap_mm(bone)
    corners = np.interp(bone.stage, (FULL_WIDTH, CAPS), (0.2, 0.08)) * 2.0 * bone.half_width
    shaft = adult * _quarter_circle((along - bone.plate - half_gap) / corners)
    epiphysis = _epiphysis_outline(bone, adult, along)
    outline = np.where(along < bone.plate, epiphysis, shaft)
    return Profile(outline.astype(np.float32), _erode(bone, outline))


def profile_closed(bone: Tubular) -> Profile:
    """Return the profile with a closed growth plate: the adult outline with a scar where the plate was."""
    outline = _adult_outline(bone)
    scar = np.interp(bone.stage, (FUSES, FUSED, FADED), (0.5, 0.6, 0.0))
    line = np.exp(-(((_axis_mm(bone) - bone.plate) / SCAR_MM) ** 2))
    core = _erode(bone, outline) * (1.0 - scar * line)
    return Profile(outline.astype(np.float32), core.astype(np.float32))


def round_radii(bone: Round) -> Array:
    """Return the radii in mm in `NUM_DIRECTIONS` directions, from x toward y."""
    adult = _adult_radii(bone.adult)
    shape = np.interp(bone.stage, ROUND_STAGES, ROUND_SHAPE)
    size = bone.scale * np.interp(bone.stage, ROUND_STAGES, ROUND_SIZE)
    radii: Array = (size * (shape * adult + (1.0 - shape) * adult.mean())).astype(np.float32)
    return radii


@cache
def _adult_radii(adult: RoundDimensions) -> Array:
    num_given = len(adult.radii)
    directions = np.arange(-SMOOTHING_REACH, NUM_DIRECTIONS + SMOOTHING_REACH) * (num_given / NUM_DIRECTIONS)
    radii = np.interp(directions, np.arange(num_given), adult.radii, period=num_given)
    return np.convolve(radii, np.full(2 * SMOOTHING_REACH + 1, 1.0 / (2 * SMOOTHING_REACH + 1)), mode="valid")


def _axis_mm(bone: Tubular) -> Array:
    return np.arange(0.0, bone.length + STEP_MM, STEP_MM)


def _adult_outline(bone: Tubular) -> Array:
    adult, along = bone.adult, _axis_mm(bone)
    waist = adult.waist * bone.robustness
    neck = waist + 0.22 * (adult.growing_end - waist)
    widths = (adult.growing_end, adult.growing_end, neck, waist, adult.other_end, adult.other_end)
    half = 0.5 * bone.width_scale * _smooth(np.interp(along / bone.length, SHAFT_KNOTS, widths))
    start = bone.half_width * adult.roundness
    end = 0.5 * bone.width_scale * adult.other_end * 0.5
    return half * _quarter_circle(along / start) * _quarter_circle((bone.length - along) / end)


def _epiphysis_outline(bone: Tubular, adult: Array, along: Array) -> Array:
    if bone.stage < APPEARS:
        return np.zeros_like(adult)
    ratio, thickness, exponent, adult_fraction = (
        np.interp(bone.stage, GROWTH_STAGES, values)
        for values in (WIDTH_RATIO, THICKNESS_FRACTION, SUPERELLIPSE_EXPONENT, ADULT_FRACTION)
    )
    zone = bone.plate - 0.5 * _gap_mm(bone)
    half_width = ratio * bone.half_width
    half_thickness = min(0.5 * zone * thickness, half_width)
    from_middle = np.abs(along - (zone - 0.5 * zone * (1.0 + thickness) / 2.0)) / half_thickness
    disc = half_width * np.clip(1.0 - from_middle**exponent, 0.0, None) ** (1.0 / exponent)
    return ((1.0 - adult_fraction) * disc + adult_fraction * ratio * adult) * (along < zone)


def _gap_mm(bone: Tubular) -> float:
    return min(float(np.interp(bone.stage, GROWTH_STAGES, PLATE_MM)), 0.33 * bone.plate)


def _erode(bone: Tubular, outline: Array) -> Array:
    shell = SHELL_MM * max(0.6, bone.width_scale)
    steps = round(shell / STEP_MM)
    padded = np.pad(outline, steps)
    narrowest = np.minimum(np.minimum(padded[: -2 * steps], padded[2 * steps :]), outline)
    cortex_fraction = np.interp(_axis_mm(bone) / bone.length, CORTEX_KNOTS, CORTEX_FRACTION)
    wall = shell + cortex_fraction * bone.cortex * 0.5 * bone.width_scale * bone.adult.waist
    core: Array = np.clip(narrowest - wall, 0.0, None).astype(np.float32)
    return core


def _smooth(values: Array) -> Array:
    width = max(3, len(values) // 9)
    padded = np.pad(values, (width // 2, width - 1 - width // 2), mode="edge")
    return np.convolve(padded, np.full(width, 1.0 / width), mode="valid")


def _quarter_circle(depth: Array) -> Array:
    """Return a factor that rises from 0 at depth 0 to 1 at depth 1 along a quarter circle."""
    inside = np.clip(depth, 0.0, 1.0)
    rise: Array = np.sqrt(inside * (2.0 - inside))
    return rise
