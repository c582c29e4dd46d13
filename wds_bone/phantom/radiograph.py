"""Compute how much mineral and soft tissue each ray of the beam passes through.

In: a skeleton in mm and a view of it.
Out: maps of optical thickness and of depth on the canvas of the view.
Invariant: every bone is drawn in its own window and coordinates: u along its axis, v across it, in mm.
"""

import numpy as np
from numpy.typing import NDArray

from wds_bone.phantom.anatomy import Skeleton
from wds_bone.phantom.maturity import CAPS, FULL_WIDTH, FUSED, FUSES
from wds_bone.phantom.parts import Round, SoftTissue, Tubular
from wds_bone.phantom.profiles import (
    NUM_DIRECTIONS,
    STEP_MM,
    Array,
    Profile,
    profile_closed,
    profile_open,
    round_radii,
)
from wds_bone.phantom.randomness import make_generator
from wds_bone.phantom.view import View, Window, open_window

# Attenuation at about 35 keV, between the NIST values for 30 and 40.
CORTICAL_PER_MM, TRABECULAR_PER_MM, WATER_PER_MM = 0.18, 0.055, 0.031
DEPTH_MM = 9.0  # half the depth of the thickest bones along the beam
TEXTURE_PIXELS = 256
TEXTURE_PER_MM = (2.0, 5.0)  # texture pixels per mm along and across the trabeculae
TEXTURE_SD = 0.22  # relative to the mean attenuation
ROUND_SHELL_MM = 0.8
RING_RADIUS_MM, RING_WIDTH_MM, RING_DEPTH = 10.0, 1.6, np.float32(1.5)


def draw_mineral(skeleton: Skeleton, view: View, *, seed: int) -> Array:
    """Return the optical thickness of bone in excess of water, float32 in the shape of the canvas."""
    canvas = np.zeros((view.num_pixels, view.num_pixels), np.float32)
    texture = _trabecular_texture(seed)
    for bone in skeleton.tubular:
        _add_tubular(canvas, bone, view, texture)
    for round_bone in skeleton.round:
        if round_bone.stage > 0:
            _add_round(canvas, round_bone, view, texture)
    return canvas


def add_ring(mineral: Array, skeleton: Skeleton, view: View) -> None:
    """Add a metal ring around the proximal phalanx of finger IV, in place."""
    finger = next(bone for bone in skeleton.tubular if bone.name == "PP4")
    reach = RING_RADIUS_MM * finger.width_scale
    middle = 0.4 * finger.length
    window = open_window(view, (finger.x, finger.y, finger.angle), (0.0, finger.length), reach)
    band = (np.abs(window.u - middle) < RING_WIDTH_MM) & (np.abs(window.v) < reach)
    mineral[window.rows, window.columns] += RING_DEPTH * band


def draw_soft_tissue(skeleton: Skeleton, view: View) -> Array:
    """Return the depth of soft tissue in mm; where parts overlap, the depth is close to that of the deeper part."""
    eighth_powers = np.zeros((view.num_pixels, view.num_pixels), np.float32)
    for part in skeleton.soft_tissue:
        _add_soft_tissue(eighth_powers, part, view)
    radius: Array = np.sqrt(np.sqrt(np.sqrt(eighth_powers)))
    return 2.0 * radius


def _add_tubular(canvas: Array, bone: Tubular, view: View, texture: Array) -> None:
    reach = (-4.0 * bone.width_scale, bone.length + 1.0)
    window = open_window(view, (bone.x, bone.y, bone.angle), reach, 1.1 * bone.half_width)
    distance = _distance_from_joint(bone, window)
    trabecular = _trabecular_per_mm(texture, window)
    flatness = np.float32(min(1.0, DEPTH_MM * bone.width_scale / bone.half_width))
    canvas[window.rows, window.columns] += flatness * _mineral(bone, window, distance, trabecular)


def _distance_from_joint(bone: Tubular, window: Window) -> Array:
    """Return u corrected for the curved joint face, the slant of a styloid and the rims that cap the shaft."""
    q = window.v / np.float32(bone.half_width)
    q_squared = q * q
    scale = np.float32(bone.width_scale)
    distance = window.u - np.float32(bone.adult.cup) * scale * (1.0 - q_squared)
    if bone.adult.cup > 0:
        cap = np.float32(np.interp(bone.stage, (FULL_WIDTH, CAPS), (0.0, 1.2)) * bone.width_scale)
        distance -= cap * q_squared * q_squared
    if bone.slant:
        near = np.clip(1.0 - window.u / np.float32(bone.plate), 0.0, 1.5)
        distance -= np.float32(bone.slant) * q * near
    return distance


def _mineral(bone: Tubular, window: Window, distance: Array, trabecular: Array) -> Array:
    if bone.stage <= FUSES:
        return _thickness(profile_open(bone), window, distance, trabecular)
    closed = _thickness(profile_closed(bone), window, distance, trabecular)
    if bone.stage >= FUSED:
        return closed
    mineral = _thickness(profile_open(bone), window, distance, trabecular)
    fused_width = np.float32(1.3 * (bone.stage - FUSES))
    bridged: Array = np.clip((fused_width - np.abs(window.v) / np.float32(bone.half_width)) / 0.25, 0.0, 1.0)
    mineral += bridged * (closed - mineral)
    return mineral


def _thickness(profile: Profile, window: Window, distance: Array, trabecular: Array) -> Array:
    index = (distance / np.float32(STEP_MM)).astype(np.int32)
    v_squared = window.v * window.v
    outer = _chord(profile.outline, index, v_squared)
    inner = _chord(profile.core, index, v_squared)
    mineral: Array = np.float32(CORTICAL_PER_MM - WATER_PER_MM) * (outer - inner) + trabecular * inner
    return mineral


def _chord(half_widths: Array, index: NDArray[np.int32], v_squared: Array) -> Array:
    half = np.take(half_widths, index, mode="clip")
    chord: Array = 2.0 * np.sqrt(np.maximum(half * half - v_squared, 0.0))
    return chord


def _add_round(canvas: Array, bone: Round, view: View, texture: Array) -> None:
    radii = round_radii(bone)
    reach = float(np.max(radii))
    window = open_window(view, (bone.x, bone.y, 0.0), (-reach, reach), reach)
    direction = np.arctan2(window.u, window.v) * np.float32(NUM_DIRECTIONS / (2.0 * np.pi))
    radius = np.take(radii, direction.astype(np.int32), mode="wrap")
    squared = window.u * window.u + window.v * window.v
    shell = np.float32(ROUND_SHELL_MM * bone.scale)
    depth = np.float32(bone.adult.depth * reach / max(bone.adult.radii))
    outer = depth * np.sqrt(np.maximum(1.0 - squared / (radius * radius), 0.0))
    core = np.maximum(radius - shell, 1e-3)
    inner = np.maximum(depth - 2.0 * shell, 0.0) * np.sqrt(np.maximum(1.0 - squared / (core * core), 0.0))
    mineral = np.float32(CORTICAL_PER_MM - WATER_PER_MM) * (outer - inner) + _trabecular_per_mm(texture, window) * inner
    canvas[window.rows, window.columns] += mineral


def _add_soft_tissue(eighth_powers: Array, part: SoftTissue, view: View) -> None:
    widest = max(part.start_radius, part.end_radius)
    window = open_window(view, (part.x, part.y, part.angle), (-widest, part.length + widest), widest)
    fraction = np.clip(window.u / np.float32(part.length), 0.0, 1.0)
    radius = np.float32(part.start_radius) + np.float32(part.end_radius - part.start_radius) * fraction
    beyond = window.u - np.float32(part.length) * fraction
    squared = np.maximum(radius * radius - window.v * window.v - beyond * beyond, 0.0)
    squared *= squared
    eighth_powers[window.rows, window.columns] += squared * squared


def _trabecular_per_mm(texture: Array, window: Window) -> Array:
    """Return the optical thickness per mm of trabecular bone minus that of water, with a texture along the axis."""
    along, across = (np.float32(pixels) for pixels in TEXTURE_PER_MM)
    rows = (window.u * along).astype(np.int32) & (TEXTURE_PIXELS - 1)
    columns = (window.v * across).astype(np.int32) & (TEXTURE_PIXELS - 1)
    per_mm: Array = texture[rows, columns]
    return per_mm


def _trabecular_texture(seed: int) -> Array:
    noise = make_generator(seed, "trabeculae").standard_normal((TEXTURE_PIXELS, TEXTURE_PIXELS), dtype=np.float32)
    for axis in (0, 1):
        noise = noise + np.roll(noise, 1, axis) + np.roll(noise, 2, axis)
    noise -= np.roll(noise, TEXTURE_PIXELS // 16, 1)
    noise *= np.float32(TEXTURE_SD / noise.std())
    texture: Array = np.float32(TRABECULAR_PER_MM - WATER_PER_MM) * (1.0 + noise)
    return texture
