"""Resample images so that moved images and images in place are equally sharp.

In: float32 images, and where each of them moves.
Out: the images, sampled bilinearly.
Invariant: an image that stays in place has the same power at every frequency as it has on average when it moves.

Bilinear sampling at t of the way from one pixel to the next blurs: at the frequency w (in radians per pixel), it
multiplies the power by 1 - 2 t (1 - t) (1 - cos w). Rotations, scales and shifts sample at all t alike, and the mean of
t (1 - t) is 1/6. It is 1/6 at `EVEN_PHASE` too, a node of the two-point Gauss-Legendre rule, so sampling an image in
place there makes the powers equal at all frequencies at once.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

EVEN_PHASE = (1.0 - 1.0 / math.sqrt(3.0)) / 2.0
"""About 0.2113: where between two pixels images that stay in place are sampled, in both directions."""


def resample(image: Tensor, moves: Tensor | None, *, phase_pixels: float) -> Tensor:
    """Move images in one bilinear sampling; pixels from outside an image repeat its border.

    Args:
        image: float32 (B, 1, H, W).
        moves: float32 (B, 2, 3), on the same device: the affine maps from output to input coordinates (x, y), whose
            units are half the width and half the height, with (0, 0) in the center; None leaves the images in place.
        phase_pixels: a constant that is added to all sampling positions, in pixels.

    Returns:
        float32 (B, 1, H, W).
    """
    if moves is None and phase_pixels == 0.0:
        return image  # sampling each pixel at its own position would change nothing but the rounding
    maps = torch.eye(2, 3, device=image.device)[None] if moves is None else moves
    height, width = image.shape[2:]
    grid = _positions(maps, height=height, width=width)
    grid[..., 0] += 2.0 * phase_pixels / width
    grid[..., 1] += 2.0 * phase_pixels / height
    return F.grid_sample(image, grid.expand(len(image), -1, -1, -1), padding_mode="border", align_corners=False)


def _positions(maps: Tensor, *, height: int, width: int) -> Tensor:
    """Return where the pixels of images are sampled, float32 (B, H, W, 2).

    Unlike the matrix product of `F.affine_grid`, the sums cannot be rounded to TF32 or depend on the batch.
    """
    x, y = (torch.arange(1 - size, size, 2, dtype=torch.float32, device=maps.device) / size for size in (width, height))
    across, down, shift = maps[:, None, None].unbind(4)  # (B, 1, 1, 2) each
    return across * x[:, None] + (down * y[:, None, None] + shift)


def affine_maps(
    angle: Tensor, zoom: Tensor, *, aspect: float, direction: Tensor | float = 1.0, shift: Tensor | float = 0.0
) -> Tensor:
    """Return the maps that mirror, rotate, scale and shift images, for `resample`.

    Args:
        angle: float32 (B,), in radians.
        zoom: float32 (B,); the hand gets larger below 1.
        aspect: width of the images divided by their height.
        direction: (B,) or a number, -1 for images that are mirrored, otherwise 1.
        shift: (B, 2) or a number, in half widths and half heights.

    Returns:
        float32 (B, 2, 3).
    """
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    linear = torch.stack([cos * direction, -sin / aspect, sin * aspect * direction, cos], 1).view(-1, 2, 2)
    moved = torch.zeros_like(linear[:, 0]) + shift
    return torch.cat([linear, moved[:, :, None]], 2)
