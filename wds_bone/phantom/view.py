"""Where the hand lies on the film, and the coordinates in which its parts are drawn.

In: a skeleton in mm, the nuisances of the film, the size wanted. Out: a `View`, and windows in it.
Invariant: the whole hand and the visible forearm lie inside the canvas, however large the hand is.
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
    """Where a point of the hand, in mm, falls on the canvas."""

    num_pixels: int  # of the side of the square canvas
    pixels_per_mm: float
    turn: float  # radians, clockwise
    column: float  # of the origin of the hand
    row: float
    hand_left: float = 0.0  # columns between which the hand lies
    hand_right: float = 0.0

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Return (column, row) of the point (x, y)."""
        right = x * cos(self.turn) + y * sin(self.turn)
        up = y * cos(self.turn) - x * sin(self.turn)
        return self.column + self.pixels_per_mm * right, self.row - self.pixels_per_mm * up


@dataclass(frozen=True)
class Window:
    """A rectangle of the canvas and the coordinates of its pixels in mm."""

    rows: slice
    columns: slice
    u: Array
    v: Array


def open_window(view: View, place: tuple[float, float, float], along: tuple[float, float], across: float) -> Window:
    """Return the window around a bone.

    Args:
        view: of the hand.
        place: x and y in mm, angle in radians, of the bone's own origin and axis.
        along: lowest and highest u in mm.
        across: highest absolute v in mm.
    """
    x, y, angle = place
    column, row = view.place(x, y)
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
    """Return the view that shows the hand with a piece of forearm."""
    num_pixels = size * max(2, ceil(MIN_CANVAS_PIXELS / size))
    turn = radians(nuisances["rotation_degrees"])
    left, top, right, bottom = _bounds(skeleton, View(num_pixels, 1.0, turn, column=0.0, row=0.0))
    scale = num_pixels * nuisances["fill"] / max(right - left, bottom - top)
    free_x, free_y = num_pixels - scale * (right - left), num_pixels * (1.0 - nuisances["fill"])
    from_left, from_top = free_x * nuisances["shift_x"], free_y * nuisances["shift_y"]
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
    for part in skeleton.flesh:
        for share, radius in ((0.0, part.start_radius), (1.0, part.end_radius)):
            x = part.x + share * part.length * sin(part.angle)
            y = max(part.y + share * part.length * cos(part.angle), radius - skeleton.forearm)
            column, row = view.place(x, y)
            corners.append((column - radius, row - radius, column + radius, row + radius))
    lefts, tops, rights, bottoms = zip(*corners, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def _span(values: Array, num_pixels: int) -> slice:
    first, last = int(np.floor(values.min())), int(np.ceil(values.max())) + 1
    first = min(max(first, 0), num_pixels)
    return slice(first, min(max(last, first), num_pixels))
