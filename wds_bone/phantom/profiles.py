"""Profiles: what a bone of a given stage looks like along its own axis.

In: a placed bone with its stage. Out: half widths in mm over the distance from the growing end, once with an open
growth plate and once closed. Invariant: a profile is a function of form and stage alone.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wds_bone.phantom.forms import RoundForm
from wds_bone.phantom.maturity import APPEARS, CAPS, FADED, FULL_WIDTH, FUSED, FUSES, HALF_WIDTH
from wds_bone.phantom.parts import Round, Tubular

Array = NDArray[Any]  # float32 throughout, so that the work on whole windows is quick

STEP_MM = 0.1
SHELL_MM = 0.7  # dense layer under every bone's surface

# Where the waist begins and ends, in shares of the length from the growing end.
SHAFT_PLACES = (0.0, 0.10, 0.32, 0.60, 0.88, 1.0)

# Stage of an epiphysis: its width over that of the shaft, its thickness over the whole zone, corners from round (2)
# to square, how much of the adult outline it has taken on, width of the plate in mm.
GROWTH_STAGES = (APPEARS, HALF_WIDTH, FULL_WIDTH, CAPS, FUSES, FUSED)
WIDTH_RATIO = (0.16, 0.50, 0.98, 1.05, 1.02, 1.0)
THICKNESS_SHARE = (0.40, 0.66, 0.84, 0.97, 1.0, 1.0)
SQUARENESS = (2.0, 2.2, 2.8, 3.4, 3.5, 3.5)
ADULT_SHARE = (0.0, 0.0, 0.35, 0.8, 1.0, 1.0)
PLATE_MM = (1.7, 1.5, 1.25, 1.0, 0.6, 0.5)

# Share of a shaft's cortex that is there, by place.
CORTEX_PLACES = (0.0, 0.12, 0.34, 0.62, 0.86, 1.0)
CORTEX_SHARE = (0.0, 0.0, 0.85, 1.0, 0.25, 0.0)
SCAR_MM = 0.5

# Stage of a carpal: its size over that of the adult, how much of the adult shape it has taken on.
ROUND_STAGES = (1.0, 2.0, 3.0)
ROUND_SIZE = (0.16, 0.62, 1.0)
ROUND_SHAPE = (0.0, 0.45, 1.0)
NUM_DIRECTIONS = 256
SMOOTHED = 12  # directions to either side


@dataclass(frozen=True)
class Profile:
    """Half widths in mm, one for every `STEP_MM` from the growing end."""

    outline: Array
    core: Array  # the outline less cortex and shell


def profile_open(bone: Tubular) -> Profile:
    """Return the bone with its growth plate open, or without its epiphysis when that has not appeared."""
    adult, along = _adult_outline(bone), _along(bone)
    half_gap = 0.5 * _gap_mm(bone)
    corners = np.interp(bone.stage, (FULL_WIDTH, CAPS), (0.2, 0.08)) * 2.0 * bone.half_width
    shaft = adult * _rounding((along - bone.plate - half_gap) / corners)
    epiphysis = _epiphysis_outline(bone, adult, along)
    outline = np.where(along < bone.plate, epiphysis, shaft)
    return Profile(outline.astype(np.float32), _erode(bone, outline))


def profile_closed(bone: Tubular) -> Profile:
    """Return the bone without a plate: the adult outline, and the scar where the plate was."""
    outline = _adult_outline(bone)
    scar = np.interp(bone.stage, (FUSES, FUSED, FADED), (0.5, 0.6, 0.0))
    line = np.exp(-(((_along(bone) - bone.plate) / SCAR_MM) ** 2))
    core = _erode(bone, outline) * (1.0 - scar * line)
    return Profile(outline.astype(np.float32), core.astype(np.float32))


def round_radii(bone: Round) -> Array:
    """Return the radius in mm in `NUM_DIRECTIONS` directions, from x toward y."""
    adult = _adult_radii(bone.form)
    shape = np.interp(bone.stage, ROUND_STAGES, ROUND_SHAPE)
    size = bone.scale * np.interp(bone.stage, ROUND_STAGES, ROUND_SIZE)
    radii: Array = (size * (shape * adult + (1.0 - shape) * adult.mean())).astype(np.float32)
    return radii


@cache
def _adult_radii(form: RoundForm) -> Array:
    num_given = len(form.radii)
    directions = np.arange(-SMOOTHED, NUM_DIRECTIONS + SMOOTHED) * (num_given / NUM_DIRECTIONS)
    radii = np.interp(directions, np.arange(num_given), form.radii, period=num_given)
    return np.convolve(radii, np.full(2 * SMOOTHED + 1, 1.0 / (2 * SMOOTHED + 1)), mode="valid")


def _along(bone: Tubular) -> Array:
    return np.arange(0.0, bone.length + STEP_MM, STEP_MM)


def _adult_outline(bone: Tubular) -> Array:
    form, along = bone.form, _along(bone)
    waist = form.waist * bone.robustness
    neck = waist + 0.22 * (form.growing_end - waist)
    widths = (form.growing_end, form.growing_end, neck, waist, form.other_end, form.other_end)
    half = 0.5 * bone.width_scale * _smooth(np.interp(along / bone.length, SHAFT_PLACES, widths))
    start = bone.half_width * form.roundness
    end = 0.5 * bone.width_scale * form.other_end * 0.5
    return half * _rounding(along / start) * _rounding((bone.length - along) / end)


def _epiphysis_outline(bone: Tubular, adult: Array, along: Array) -> Array:
    if bone.stage < APPEARS:
        return np.zeros_like(adult)
    ratio, thickness, square, grown_up = (
        np.interp(bone.stage, GROWTH_STAGES, values)
        for values in (WIDTH_RATIO, THICKNESS_SHARE, SQUARENESS, ADULT_SHARE)
    )
    zone = bone.plate - 0.5 * _gap_mm(bone)
    half_width = ratio * bone.half_width
    half_thickness = min(0.5 * zone * thickness, half_width)
    from_middle = np.abs(along - (zone - 0.5 * zone * (1.0 + thickness) / 2.0)) / half_thickness
    disc = half_width * np.clip(1.0 - from_middle**square, 0.0, None) ** (1.0 / square)
    return ((1.0 - grown_up) * disc + grown_up * ratio * adult) * (along < zone)


def _gap_mm(bone: Tubular) -> float:
    return min(float(np.interp(bone.stage, GROWTH_STAGES, PLATE_MM)), 0.33 * bone.plate)


def _erode(bone: Tubular, outline: Array) -> Array:
    shell = SHELL_MM * max(0.6, bone.width_scale)
    steps = round(shell / STEP_MM)
    padded = np.pad(outline, steps)
    narrowest = np.minimum(np.minimum(padded[: -2 * steps], padded[2 * steps :]), outline)
    share = np.interp(_along(bone) / bone.length, CORTEX_PLACES, CORTEX_SHARE)
    wall = shell + share * bone.cortex * 0.5 * bone.width_scale * bone.form.waist
    core: Array = np.clip(narrowest - wall, 0.0, None).astype(np.float32)
    return core


def _smooth(values: Array) -> Array:
    width = max(3, len(values) // 9)
    padded = np.pad(values, (width // 2, width - 1 - width // 2), mode="edge")
    return np.convolve(padded, np.full(width, 1.0 / width), mode="valid")


def _rounding(depth: Array) -> Array:
    """Return the quarter circle that takes a half width from 0 at depth 0 to 1 at depth 1."""
    inside = np.clip(depth, 0.0, 1.0)
    rise: Array = np.sqrt(inside * (2.0 - inside))
    return rise
