"""Equalize images locally, as software for viewing films does, for the augmentation.

In: stored images, and how far they are equalized.
Out: images of the same type.
Invariant: an image is equalized in the same way in any batch.
"""

import torch
from torch import Tensor

from wds_bone.model.exposure import NUM_GRAYS

NUM_TILES = 8
"""Per side, as in OpenCV and scikit-image."""


def equalize_locally(image: Tensor, slope: Tensor) -> Tensor:
    """Map each pixel by the tone curves of the four nearest tiles (CLAHE; Zuiderveld, Graphics Gems IV, 1994).

    Args:
        image: uint8 (B, 1, H, W).
        slope: float32 (B,), the slope at which a curve is clipped before the rest is spread; 0 changes nothing.

    Returns:
        uint8 (B, 1, H, W).
    """
    height, width = image.shape[2:]
    rows, columns = _tiles(height, image.device), _tiles(width, image.device)
    curves = _curves(image, rows[:, None] * NUM_TILES + columns, slope)
    (above, below, down), (left, right, across) = _neighbors(height, image.device), _neighbors(width, image.device)
    down = down[:, None]

    def mapped(row: Tensor, column: Tensor) -> Tensor:
        starts = _curve_starts(image, row[:, None] * NUM_TILES + column)
        return curves.flatten().index_select(0, (starts + image).flatten()).view(image.shape)

    upper = torch.lerp(mapped(above, left), mapped(above, right), across)
    lower = torch.lerp(mapped(below, left), mapped(below, right), across)
    equalized = torch.lerp(upper, lower, down).round().to(torch.uint8)
    return torch.where(slope[:, None, None, None] > 0.0, equalized, image)


def _curves(image: Tensor, tiles: Tensor, slope: Tensor) -> Tensor:
    """Return the cumulative clipped histograms of the tiles, float32 (B * NUM_TILES ** 2, NUM_GRAYS), 0 to 255.

    They are sums of whole numbers: those of floats would depend on their order, which is not fixed on CUDA.
    """
    num_curves = len(image) * NUM_TILES**2
    places = (_curve_starts(image, tiles) + image).flatten().long()
    ones = torch.ones((), dtype=torch.int32, device=image.device).expand(len(places))
    counts = torch.zeros(num_curves * NUM_GRAYS, dtype=torch.int32, device=image.device).scatter_add_(0, places, ones)
    counts = counts.view(num_curves, NUM_GRAYS)
    size = counts.sum(1, keepdim=True, dtype=torch.int32)
    limits = (slope.repeat_interleave(NUM_TILES**2)[:, None] * size).round().int()  # in parts of 1 / NUM_GRAYS
    sums = torch.minimum(counts * NUM_GRAYS, limits).cumsum(1, dtype=torch.int32)
    excess = size * NUM_GRAYS - sums[:, -1:]
    share = torch.arange(1, NUM_GRAYS + 1, device=image.device) / NUM_GRAYS
    return (sums + excess * share) * (255.0 / NUM_GRAYS / size)


def _curve_starts(image: Tensor, tiles: Tensor) -> Tensor:
    """Return where the curve of each pixel's tile begins, int32 (B, 1, H, W); `tiles` is int32 (H, W)."""
    first = torch.arange(len(image), dtype=torch.int32, device=image.device)[:, None, None, None] * NUM_TILES**2
    return (first + tiles) * NUM_GRAYS


def _tiles(num_pixels: int, device: torch.device) -> Tensor:
    """Return the tile of each pixel of a line, int32 (num_pixels,)."""
    return torch.arange(num_pixels, dtype=torch.int32, device=device) * NUM_TILES // num_pixels


def _neighbors(num_pixels: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return, for each pixel of a line, the tiles whose centers are before and after it, and the weight of the latter.

    The first two are int32 (num_pixels,); before the first center and after the last one, both are the same tile.
    """
    pixels = torch.arange(num_pixels, device=device)
    place = ((pixels + 0.5) / num_pixels * NUM_TILES - 0.5).clamp(0, NUM_TILES - 1)
    before = place.int()
    return before, (before + 1).clamp_max(NUM_TILES - 1), place - before
