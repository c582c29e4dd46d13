"""Project the hand onto the film, and give each of its parts a local coordinate system.

In: a skeleton in mm, the nuisances of the film and the requested size.
Out: a `View`, and windows into it.
Invariant: the whole hand and the visible forearm are inside the canvas, however large the hand is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, cos, radians, sin

import numpy as np

from wds_bone.phantom.anatomy import Skeleton
from wds_bone.phantom.profiles import Array

MIN_CANVAS_PIXELS = 384


@dataclass(frozen=True)
class View:
    """The mapping from hand coordinates in mm to canvas pixels."""

    num_pixels: int  # side of the square canvas
    pixels_per_mm: float
    turn: float  # radians, clockwise
    column: float  # column of the origin of the hand
    row: float  # row of the origin of the hand
    hand_left: float = 0.0  # columns of the left and right edges of the hand
    hand_right: float = 0.0

    def project(self, x: float, y: float) -> tuple[float, float]:
        """Return (column, row) of the point (x, y)."""
        right = x * cos(self.turn) + y * sin(self.turn)
        up = y * cos(self.turn) - x * sin(self.turn)
        return self.column + self.pixels_per_mm * right, self.row - self.pixels_per_mm * up


@dataclass(frozen=True)
class Window:
    """A rectangle of the canvas and the coordinates of its pixels in mm, u along the axis of a bone and v across it."""

    rows: slice
    columns: slice
    u: Array
    v: Array


def open_window(view: View, placement: tuple[float, float, float], along: tuple[float, float], across: float) -> Window:
    """Return the window around a bone.

    Args:
        view: the view of the hand.
        placement: the origin (x, y) of the bone in mm and the angle of its axis in radians.
        along: the lowest and the highest u in mm.
        across: the highest absolute v in mm.
    """
    x, y, angle = placement
    column, row = view.project(x, y)
    du, dv = sin(angle + view.turn), cos(angle + view.turn)
    corners_u, corners_v = np.array([[u, v] for u in along for v in (-across, across)]).T
    columns = _span(column + view.pixels_per_mm * (corners_u * du + corners_v * dv), view.num_pixels)
    rows = _span(row + view.pixels_per_mm * (corners_v * du - corners_u * dv), view.num_pixels)
    right = ((np.arange(columns.start, columns.stop, dtype=np.float32) + 0.5 - column) / view.pixels_per_mm)[None, :]
    down = ((np.arange(rows.start, rows.stop, dtype=np.float32) + 0.5 - row) / view.pixels_per_mm)[:, None]
    return Window(
        rows, columns, right * np.float32(du) - down * np.float32(dv), right * np.float32(dv) + down * np.float32(du)
    )


def frame_hand(skeleton: Skeleton, size: int, *, nuisances: Mapping[str, float]) -> View:
    """Return the view that shows the whole hand and the visible part of the forearm."""
    num_pixels = size * max(2, ceil(MIN_CANVAS_PIXELS / size))
    turn = radians(nuisances["rotation_degrees"])
    left, top, right, bottom = _bounds(skeleton, View(num_pixels, 1.0, turn, column=0.0, row=0.0))
    scale = num_pixels * nuisances["fill"] / max(right - left, bottom - top)
    margin_x, margin_y = num_pixels - scale * (right - left), num_pixels * (1.0 - nuisances["fill"])
    from_left, from_top = margin_x * nuisances["shift_x"], margin_y * nuisances["shift_y"]
    return View(
        num_pixels,
        scale,
        turn,
        column=from_left - scale * left,
        row=from_top - scale * top,
        hand_left=from_left,
        hand_right=from_left + scale * (right - left),
    )


def _bounds(skeleton: Skeleton, view: View) -> tuple[float, float, float, float]:
    corners = []
    for part in skeleton.soft_tissue:
        for fraction, radius in ((0.0, part.start_radius), (1.0, part.end_radius)):
            x = part.x + fraction * part.length * sin(part.angle)
            y = max(part.y + fraction * part.length * cos(part.angle), radius - skeleton.forearm)
            column, row = view.project(x, y)
            corners.append((column - radius, row - radius, column + radius, row + radius))
    lefts, tops, rights, bottoms = zip(*corners, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def _span(values: Array, num_pixels: int) -> slice:
    first, last = int(np.floor(values.min())), int(np.ceil(values.max())) + 1
    first = min(max(first, 0), num_pixels)
    return slice(first, min(max(last, first), num_pixels))
