"""Turn attenuation maps into an 8-bit image: beam, scatter, noise, logarithm, intensity window and artifacts.

In: the optical thickness of the bones, the depth of the soft tissue, the nuisances of the film and the requested size.
Out: uint8 (size, size), bones bright.
Invariant: attenuation follows the Beer-Lambert law; nothing here depends on a stage, an age or a gender.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from wds_bone.phantom.profiles import Array
from wds_bone.phantom.radiograph import WATER_PER_MM
from wds_bone.phantom.randomness import draw_uniform, make_generator
from wds_bone.phantom.view import View

MARKER_THICKNESS = 3.0  # optical thickness
READ_NOISE = 0.003
DARKEST_SIGNAL = 1e-3
WINDOW_PERCENT = (0.5, 99.5)
SCATTER_BLOCKS = 16
SCATTER_SMOOTHINGS = 4  # each with a standard deviation of one block
LETTER_HEIGHT = 0.055  # as a fraction of the image height
LETTERS = {
    "L": ("#....", "#....", "#....", "#....", "#....", "#....", "#####"),
    "R": ("####.", "#...#", "#...#", "####.", "#.#..", "#..#.", "#...#"),
}


def expose(mineral: Array, soft_tissue: Array, *, nuisances: Mapping[str, float], seed: int) -> Array:
    """Return the negative logarithm of the detector signal, high where there is bone."""
    across = np.linspace(-1.0, 1.0, len(soft_tissue), dtype=np.float32)
    slope = 1.0 + nuisances["gradient_x"] * across[None, :] + nuisances["gradient_y"] * across[:, None]
    beam = np.exp(-(mineral * np.float32(nuisances["density"]) + np.float32(WATER_PER_MM) * soft_tissue)) * slope
    signal = _blur(beam + np.float32(nuisances["scatter"]) * _scatter(beam), nuisances["blur_pixels"])
    noise = make_generator(seed, "photons").standard_normal(signal.shape, dtype=np.float32)
    signal += noise * (np.sqrt(signal / np.float32(nuisances["photons"])) + np.float32(READ_NOISE))
    brightness: Array = np.log(np.maximum(signal, DARKEST_SIGNAL))
    return -brightness


def add_marker(mineral: Array, *, nuisances: Mapping[str, float], seed: int) -> None:
    """Add the lead side marker, if the film has one, to an upper corner of the canvas, in place."""
    if not nuisances["marker"]:
        return
    letter = np.array([[mark == "#" for mark in line] for line in LETTERS["R" if nuisances["right_hand"] else "L"]])
    letter = letter[:, ::-1] if nuisances["right_hand"] else letter  # `digitize` mirrors the whole film
    dot = max(1, round(LETTER_HEIGHT * len(mineral) / len(letter)))
    stamp = np.kron(letter, np.ones((dot, dot))).astype(np.float32)
    top = int(draw_uniform(seed, "marker row", 0.03, 0.12) * len(mineral))
    inset = int(draw_uniform(seed, "marker column", 0.03, 0.12) * len(mineral))
    left = inset if draw_uniform(seed, "marker side") < 0.5 else len(mineral) - inset - stamp.shape[1]
    mineral[top : top + stamp.shape[0], left : left + stamp.shape[1]] += MARKER_THICKNESS * stamp


def digitize(film: Array, view: View, size: int, *, nuisances: Mapping[str, float], seed: int) -> NDArray[np.uint8]:
    """Return the 8-bit image: scaled down, windowed, and with the artifacts and orientation that the nuisances give."""
    if nuisances["dead_column"]:
        film[:, int(draw_uniform(seed, "dead column place") * len(film))] = film.max()
    factor = len(film) // size
    small = film.reshape(size, factor, size, factor).mean((1, 3))
    low, high = np.percentile(small, WINDOW_PERCENT)
    gray = np.clip((small - low) / (high - low), 0.0, 1.0) ** nuisances["gamma"]
    image = np.rint(255.0 * (1.0 - gray if nuisances["inverted"] else gray)).astype(np.uint8)
    image[_outside_film(size, view, nuisances)] = 0
    image = image[:, ::-1] if nuisances["right_hand"] else image
    return np.ascontiguousarray(np.rot90(image) if nuisances["quarter_turn"] else image)


def _outside_film(size: int, view: View, nuisances: Mapping[str, float]) -> NDArray[np.bool_]:
    """Return a mask of the pixels that are outside the film or covered by the tilted edges of a collimator."""
    row, column = (np.mgrid[0:size, 0:size] + 0.5) / size
    left, right = view.hand_left / view.num_pixels, view.hand_right / view.num_pixels
    lean = nuisances["collimated"] * nuisances["collimator_tilt"] * (row - 0.5)
    first = left * (1.0 - nuisances["film_left"]) + lean
    last = right + (1.0 - right) * nuisances["film_right"] + lean
    beyond: NDArray[np.bool_] = (column < first) | (column > last)
    return beyond


def _blur(canvas: Array, sigma: float) -> Array:
    """Return `canvas` blurred with variance sigma^2 by two passes of a three-point kernel along each axis."""
    side = np.float32(sigma * sigma / 4.0)
    for _ in range(2):
        for axis in (0, 1):
            padded = np.pad(canvas, [(1, 1) if axis == other else (0, 0) for other in (0, 1)], mode="edge")
            before, after = (padded[:-2], padded[2:]) if axis == 0 else (padded[:, :-2], padded[:, 2:])
            canvas = canvas + side * (before + after - 2.0 * canvas)
    return canvas


def _scatter(beam: Array) -> Array:
    """Return `beam` blurred by a wide Gaussian, computed on coarse blocks and interpolated between their centers."""
    block = len(beam) // SCATTER_BLOCKS
    used = block * SCATTER_BLOCKS
    blocks = beam[:used, :used].reshape(SCATTER_BLOCKS, block, SCATTER_BLOCKS, block).mean((1, 3))
    for _ in range(SCATTER_SMOOTHINGS):
        blocks = _blur(blocks, 1.0)
    return _interpolate_rows(_interpolate_rows(blocks, len(beam)).T, len(beam)).T


def _interpolate_rows(blocks: Array, num_pixels: int) -> Array:
    """Return `blocks` with its rows interpolated linearly to `num_pixels` rows."""
    row = np.clip((np.arange(num_pixels) + 0.5) * len(blocks) / num_pixels - 0.5, 0.0, len(blocks) - 1.0)
    before = np.minimum(row.astype(np.intp), len(blocks) - 2)
    fraction = (row - before).astype(np.float32)[:, None]
    rows: Array = blocks[before] * (1.0 - fraction) + blocks[before + 1] * fraction
    return rows
