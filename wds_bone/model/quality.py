"""Change the model's input in sharpness, and hide parts of it, for the augmentation.

In: float32 images (B, 1, H, W) with normalized tones, and the strength of the change for each of them.
Out: the images, changed.
Invariant: an image is changed in the same way in any batch; a strength of 0 changes nothing.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def sharpen(image: Tensor, strength: Tensor) -> Tensor:
    """Amplify what the binomial filter 1 2 1 removes; -1 blurs by that filter.

    Args:
        image: float32 (B, 1, H, W).
        strength: float32 (B,).
    """
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    rows = padded[..., :-2, :] + 2.0 * padded[..., 1:-1, :] + padded[..., 2:, :]
    blurred = (rows[..., :-2] + 2.0 * rows[..., 1:-1] + rows[..., 2:]) / 16.0
    return torch.lerp(blurred, image, 1.0 + _each(strength))


def erase(image: Tensor, box: Tensor, gray: Tensor) -> Tensor:
    """Replace a box by one gray value (Zhong et al., "Random Erasing", AAAI 2020).

    Args:
        image: float32 (B, 1, H, W).
        box: float32 (B, 4): its height and width, and where it is from top to bottom and from left to right, as
            fractions of the image.
        gray: float32 (B,).
    """
    down, across = (_is_inside(box[:, axis], box[:, axis + 2], size) for axis, size in enumerate(image.shape[2:]))
    covered = down[:, None, :, None] & across[:, None, None, :]
    return torch.where(covered, _each(gray), image)


def _is_inside(length: Tensor, place: Tensor, num_pixels: int) -> Tensor:
    """Return which pixels of a line an interval covers, bool (B, num_pixels)."""
    centers = (torch.arange(num_pixels, device=length.device) + 0.5) / num_pixels
    start = (place * (1.0 - length))[:, None]
    return (start <= centers) & (centers < start + length[:, None])


def _each(values: Tensor) -> Tensor:
    """Return one value per image in a shape that broadcasts over its pixels, (B, 1, 1, 1)."""
    return values[:, None, None, None]
