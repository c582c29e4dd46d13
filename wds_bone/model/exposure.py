"""Give films of any exposure the same tones, by one tone curve for each film.

In: uint8 images (B, 1, H, W), in which a hand is in the middle.
Out: float32 images; air is 0, soft tissue and bone are around 0.6 to 1.
Invariant: positive contrast, brightness, gamma, a stretch that saturates the brightest and the darkest pixels, a
negative, a frame, markers and single pixels hardly change what a film becomes.

Three tones define the curve: a dark quantile of the film without its border, and the median and a bright quantile of
its center, which the hand fills. An affine map and a power put them where they belong. This is the standardization by
landmarks of Nyúl and Udupa (Magnetic Resonance in Medicine, 1999), with a power instead of a piecewise linear map.
"""

import math

import torch
from torch import Tensor

FILM_FRACTION, HAND_FRACTION = 0.75, 0.4
"""The parts of each side that are left of a film without its border, and of the center, which the hand fills."""
DARK_QUANTILE, MIDDLE_QUANTILE, BRIGHT_QUANTILE = 0.03, 0.5, 0.85
"""Of the film, and twice of the center; a higher one would be saturated in films that have been stretched."""
MIDDLE, BRIGHT, BRIGHTEST = 0.56, 0.8, 1.5
"""What the median and the bright quantile of the center become, and the limit for brighter pixels."""
SMALLEST_POWER, LARGEST_POWER = 0.4, 2.5
GRID_SIDE_PIXELS = 128
NUM_GRAYS = 256


def normalize_tones(image: Tensor, changes: Tensor | None = None) -> Tensor:
    """Apply to each image the curve that normalizes its tones.

    Args:
        image: uint8 (B, 1, H, W).
        changes: float32 (B, 5), by which training changes the exposure; None changes nothing. The first two are the
            fractions of the pixels that are saturated before the tones are measured, the darkest and the brightest. The
            others are the power, the factor and the summand that are applied to the normalized tones.

    Returns:
        float32 (B, 1, H, W); an image of a single gray value becomes black.
    """
    film, hand = (count_grays(image, fraction) for fraction in (FILM_FRACTION, HAND_FRACTION))
    is_negative = _median(hand) < _median(film)
    film, hand = (torch.where(is_negative, counts.flip(1), counts) for counts in (film, hand))
    grays = torch.linspace(0.0, 1.0, NUM_GRAYS, device=image.device).expand(len(image), -1)
    if changes is not None:
        grays = _saturate(grays, film, changes[:, 0:1], 1.0 - changes[:, 1:2])
    curves = _normalize(grays, film, hand)
    if changes is not None:
        curves = curves.pow(changes[:, 2:3]) * changes[:, 3:4] + changes[:, 4:5]
    return _look_up(torch.where(is_negative, curves.flip(1), curves), image)


def count_grays(image: Tensor, fraction: float) -> Tensor:
    """Return how often each gray value occurs in the middle of images, as parts of 1, float32 (B, NUM_GRAYS).

    At most 128 x 128 pixels are counted.

    Args:
        image: uint8 (B, 1, H, W).
        fraction: the part of each side that is counted.
    """
    top, left = (round(side * (1.0 - fraction) / 2.0) for side in image.shape[2:])
    middle = image[..., top : image.shape[2] - top, left : image.shape[3] - left]
    down, across = (-(-side // GRID_SIDE_PIXELS) for side in middle.shape[2:])
    grays = middle[..., ::down, ::across].flatten(1).long()
    # Whole numbers, because a sum of floats would depend on its order, which is not fixed on CUDA.
    counts = torch.zeros(len(image), NUM_GRAYS, dtype=torch.int32, device=image.device)
    counts.scatter_add_(1, grays, torch.ones_like(grays, dtype=torch.int32))
    return counts / grays.shape[1]


def quantile_of(grays: Tensor, counts: Tensor, quantile: Tensor | float) -> Tensor:
    """Return the smallest of rising gray values that is at least as bright as a part of the pixels, float32 (B, 1).

    Args:
        grays: float32 (B, NUM_GRAYS), not falling.
        counts: float32 (B, NUM_GRAYS), how often they occur, as parts of 1.
        quantile: the part of the pixels, for all images or (B, 1).
    """
    index = (counts.cumsum(1) < quantile - 1e-5).sum(1, keepdim=True)
    return grays.gather(1, index.clamp_max(NUM_GRAYS - 1))


def _median(counts: Tensor) -> Tensor:
    """Return the median gray value as a number from 0 to 255, (B, 1); the upper one if two are in the middle."""
    return (counts.cumsum(1) <= 0.5).sum(1, keepdim=True)


def _saturate(grays: Tensor, counts: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return the gray values after what is outside two quantiles was saturated, as a stretch does."""
    return grays.clamp(quantile_of(grays, counts, low), quantile_of(grays, counts, high))


def _look_up(curves: Tensor, image: Tensor) -> Tensor:
    """Return the values of curves, float32 (B, NUM_GRAYS), at the pixels of images; `gather` takes twice as long."""
    first = torch.arange(len(image), dtype=torch.int32, device=image.device)[:, None] * NUM_GRAYS
    return curves.flatten().index_select(0, (image.flatten(1) + first).flatten()).view(image.shape)


def _normalize(grays: Tensor, film: Tensor, hand: Tensor) -> Tensor:
    """Return what gray values become, float32 (B, NUM_GRAYS)."""
    dark = quantile_of(grays, film, DARK_QUANTILE)
    span = (quantile_of(grays, hand, BRIGHT_QUANTILE) - dark).clamp_min(1.0 / NUM_GRAYS)
    middle = ((quantile_of(grays, hand, MIDDLE_QUANTILE) - dark) / span).clamp(0.01, 0.99)
    power = (math.log(MIDDLE / BRIGHT) / middle.log()).clamp(SMALLEST_POWER, LARGEST_POWER)
    return (BRIGHT * ((grays - dark) / span).clamp_min(0.0).pow(power)).clamp_max(BRIGHTEST)
