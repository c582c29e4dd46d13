"""Change films as scanners, viewers and file formats do.

In: uint8 (B, 1, H, W), as stored.
Out: uint8 of the same shape.
Invariant: a film is changed in the same way whatever else is in its batch; in `PERTURBATIONS`, the bars of a letterbox
remain black, because real films are changed before they are letterboxed.
"""

import io
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from wds_bone.model.resample import resample

FRAME_FRACTION = 0.04
BAR_GRAY = 8
"""The brightest pixels of bars, which JPEG compression brightens at the film."""
CLAHE_TILES, CLAHE_LIMIT = 8, 2.0
"""Tiles per side, and the slope at which a tone curve is clipped before the rest is spread; as in OpenCV's examples."""


def as_bytes(image: Tensor) -> Tensor:
    """Return gray values rounded to uint8."""
    return image.round().clamp(0, 255).to(torch.uint8)


def stretched(image: Tensor, *, low: float, high: float) -> Tensor:
    """Return the films with their percentiles `low` and `high` at black and white."""
    flat = image.flatten(1).float()
    dark, bright = (torch.quantile(flat, percent / 100, dim=1)[:, None, None, None] for percent in (low, high))
    return as_bytes((image - dark) / (bright - dark).clamp_min(1.0) * 255)


def with_gamma(image: Tensor, gamma: float) -> Tensor:
    """Return the films with their gray values raised to a power; they get darker above 1."""
    return as_bytes((image / 255).pow(gamma) * 255)


def with_contrast(image: Tensor, factor: float) -> Tensor:
    """Return the films with the distance of their gray values from the mean multiplied, as image editors do."""
    mean = image.float().mean((1, 2, 3), keepdim=True)
    return as_bytes((image - mean) * factor + mean)


def with_brightness(image: Tensor, factor: float) -> Tensor:
    """Return the films with their gray values multiplied, as image editors do; what exceeds white is lost."""
    return as_bytes(image * factor)


def offset(image: Tensor, fraction: float) -> Tensor:
    """Return the films with a fraction of white added; what exceeds black or white is lost."""
    return as_bytes(image + 255 * fraction)


def framed(image: Tensor) -> Tensor:
    """Return the films with a white frame, which covers their border."""
    height, width = image.shape[2:]
    side = math.ceil(FRAME_FRACTION * max(height, width))
    inner = image[..., side : height - side, side : width - side]
    return F.pad(inner, (side, side, side, side), value=255)


def blurred(image: Tensor) -> Tensor:
    """Return the films blurred by the binomial filter 1 2 1, in both directions; its variance is half a pixel."""
    taps = torch.tensor([0.25, 0.5, 0.25])
    padded = F.pad(image.float(), (1, 1, 1, 1), mode="replicate")
    return as_bytes(F.conv2d(padded, (taps[:, None] * taps)[None, None]))


def noisy(image: Tensor, sd: float) -> Tensor:
    """Return the films with Gaussian noise; `sd` is a fraction of white. Films have the same noise."""
    noise = torch.randn(image.shape[1:], generator=torch.Generator().manual_seed(0))
    return as_bytes(image + 255 * sd * noise)


def as_jpeg(image: Tensor, quality: int) -> Tensor:
    """Return the films after they were saved as JPEG files."""
    return _each(image, partial(_through_jpeg, quality=quality))


def equalized_locally(image: Tensor) -> Tensor:
    """Return the films after CLAHE (Zuiderveld, Graphics Gems IV, 1994): 8 x 8 tiles, limit 2."""
    return _each(image, _clahe)


def shifted_exactly(image: Tensor, pixels: float = 0.25) -> Tensor:
    """Return the films shifted by a fraction of a pixel and as sharp as before; they are mirrored at their border."""
    height, width = image.shape[2:]
    wide = torch.cat([image, image.flip(3)], 3).float()
    spectrum = torch.fft.fft2(torch.cat([wide, wide.flip(2)], 2))
    down, across = torch.fft.fftfreq(2 * height), torch.fft.fftfreq(2 * width)
    turned = spectrum * torch.exp(2j * math.pi * pixels * (down[:, None] + across[None, :]))
    return as_bytes(torch.fft.ifft2(turned).real[..., :height, :width])


def shifted_bilinearly(image: Tensor, pixels: float = 0.25) -> Tensor:
    """Return the films shifted by a fraction of a pixel, and blurred by that."""
    in_place = torch.eye(2, 3).expand(len(image), 2, 3)
    return as_bytes(resample(image.float(), in_place, phase_pixels=pixels))


def inverted(image: Tensor) -> Tensor:
    """Return the negatives of the films."""
    return 255 - image


def within_film(image: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the films changed, except for rows and columns that are black.

    They are the bars of a letterbox, or black air at the border of a film: `find_film` cannot tell them apart, either.
    """
    is_bright = image > BAR_GRAY
    return torch.where(is_bright.any(2, keepdim=True) & is_bright.any(3, keepdim=True), change(image), image)


_CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "stretch 1-99": partial(stretched, low=1, high=99),
    "stretch 5-95": partial(stretched, low=5, high=95),
    "gamma 0.7": partial(with_gamma, gamma=0.7),
    "gamma 1.4": partial(with_gamma, gamma=1.4),
    "half contrast": partial(with_contrast, factor=0.5),
    "brightness +20 %": partial(with_brightness, factor=1.2),
    "brightness -20 %": partial(with_brightness, factor=0.8),
    "offset +10 %": partial(offset, fraction=0.1),
    "offset -10 %": partial(offset, fraction=-0.1),
    "CLAHE": equalized_locally,
    "blur": blurred,
    "noise 0.02": partial(noisy, sd=0.02),
    "JPEG q50": partial(as_jpeg, quality=50),
    "shift 0.25 px": shifted_exactly,
    "shift 0.25 px, blurred": shifted_bilinearly,
    "inversion": inverted,
}
PERTURBATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    **{name: partial(within_film, change=change) for name, change in _CHANGES.items()},
    "white frame": framed,
}


def _each(image: Tensor, change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.stack([change(film) for film in image[:, 0].numpy()]))[:, None]


def _through_jpeg(film: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    encoded = io.BytesIO()
    Image.fromarray(film).save(encoded, "JPEG", quality=quality)
    return np.asarray(Image.open(encoded))


def _clahe(film: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Map each pixel by the clipped histograms of the four nearest tiles, weighted bilinearly."""
    height, width = film.shape
    tables = np.stack([_tile_tables(rows) for rows in np.array_split(film, CLAHE_TILES)])
    (above, down), (left, across) = _nearest_tiles(height), _nearest_tiles(width)
    below, right = np.minimum(above + 1, CLAHE_TILES - 1), np.minimum(left + 1, CLAHE_TILES - 1)
    upper = (1 - across) * tables[above[:, None], left, film] + across * tables[above[:, None], right, film]
    lower = (1 - across) * tables[below[:, None], left, film] + across * tables[below[:, None], right, film]
    return np.rint((1 - down[:, None]) * upper + down[:, None] * lower).astype(np.uint8)


def _tile_tables(rows: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the cumulative clipped histograms of a row of tiles, float64 (CLAHE_TILES, 256), 0 to 255."""
    tiles = np.array_split(rows, CLAHE_TILES, axis=1)
    counts = np.stack([np.bincount(tile.ravel(), minlength=256) / tile.size for tile in tiles])
    limit = CLAHE_LIMIT / 256
    clipped = np.minimum(counts, limit)
    spread = clipped + (counts - clipped).sum(1, keepdims=True) / 256
    return 255 * np.cumsum(spread, axis=1)


def _nearest_tiles(num_pixels: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return, for each pixel of a line, the tile whose center is before it, and the weight of the one after it."""
    place = np.clip((np.arange(num_pixels) + 0.5) / num_pixels * CLAHE_TILES - 0.5, 0, CLAHE_TILES - 1)
    tile = np.floor(place).astype(np.int64)
    return tile, place - tile
