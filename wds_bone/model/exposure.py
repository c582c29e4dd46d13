"""Give films of any exposure the same tones, by one tone curve for each film.

In: uint8 images (B, 1, H, W), in which a hand is in the middle.
Out: float32 images; air is 0, soft tissue and bone are around 0.6 to 1.
Invariant: positive contrast, brightness, gamma, a stretch that saturates the brightest and the darkest pixels, a
negative, a frame, markers, single pixels and the bars of a letterbox hardly change what a film becomes.

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
BAR_FRACTION = 32
"""How many times darker than the brightest pixel black bars are; JPEG compression brightens them next to the film."""
WHITE = 248
"""The smallest gray value of white bars; it allows for JPEG compression."""
GRID_SIDE_PIXELS = 128
NUM_GRAYS = 256


def normalize_tones(image: Tensor, changes: Tensor | None = None) -> Tensor:
    """Apply to each image the curve that normalizes its tones.

    Args:
        image: uint8 (B, 1, H, W).
        changes: float32 (B, 5), by which training changes the exposure; None changes nothing. The first two are the
            fractions of the pixels that are saturated before the tones are measured, the darkest and the brightest; 0
            saturates none. The others are the power, the factor and the summand that are applied to the normalized
            tones.

    Returns:
        float32 (B, 1, H, W); an image of a single gray value becomes black.
    """
    is_film = find_film(image)
    is_negative, film, hand = count_positive(image, is_film)
    image = (image ^ (255 * is_negative[..., None, None]).to(torch.uint8)) * is_film  # the bars are black in any case
    grays = torch.linspace(0.0, 1.0, NUM_GRAYS, device=image.device).expand(len(image), -1)
    if changes is not None:
        grays = _saturate(grays, film, changes[:, 0:1], changes[:, 1:2])
    curves = _normalize(grays, film, hand)
    if changes is not None:
        curves = curves.pow(changes[:, 2:3]) * changes[:, 3:4] + changes[:, 4:5]
    return _look_up(curves, image)


def find_film(image: Tensor) -> Tensor:
    """Return 0 for pixels in black or white bars, such as those of a letterbox or a frame, otherwise 1.

    Rows and columns belong to a bar if their middle, without what is at the border of the image, is black; or if it is
    white, as far as no film is between them and an edge.

    Args:
        image: uint8 (B, 1, H, W).

    Returns:
        uint8 (B, 1, H, W).
    """
    rows, columns = (_middle(image, dim, FILM_FRACTION).amax(dim, keepdim=True) for dim in (3, 2))
    black = rows.amax(2, keepdim=True) // BAR_FRACTION
    is_film = (rows > black) & (columns > black)
    without_black = torch.where(is_film, image, 255)  # a white frame lies within the black bars of a letterbox
    for across, along in ((3, 2), (2, 3)):
        is_bar = _middle(without_black, across, FILM_FRACTION).amin(across, keepdim=True) >= WHITE
        is_film = is_film & ~_reach_an_edge(is_bar, along)
    return is_film.to(torch.uint8)


def count_positive(image: Tensor, is_film: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return which images are negatives, and the gray values of their films and hands after inverting these.

    They are counted, as in `count_grays`.

    Args:
        image: uint8 (B, 1, H, W).
        is_film: uint8 (B, 1, H, W), 1 for pixels that are counted, otherwise 0.

    Returns:
        bool (B, 1), int32 (B, NUM_GRAYS) of the film without its border, int32 (B, NUM_GRAYS) of its center.
    """
    film, hand = (count_grays(image, is_film, fraction) for fraction in (FILM_FRACTION, HAND_FRACTION))
    is_negative = median_of(hand) < median_of(film)
    film, hand = (torch.where(is_negative, counts.flip(1), counts) for counts in (film, hand))
    return is_negative, film, hand


def count_grays(image: Tensor, is_film: Tensor, fraction: float) -> Tensor:
    """Return how often each gray value occurs in the film in the middle of images, int32 (B, NUM_GRAYS).

    At most 128 x 128 pixels are counted.

    Args:
        image: uint8 (B, 1, H, W).
        is_film: uint8 (B, 1, H, W), 1 for pixels that are counted, otherwise 0.
        fraction: the part of each side that is counted.
    """
    grays, counted = (_grid(_middle(_middle(part, 2, fraction), 3, fraction)) for part in (image, is_film))
    # Whole numbers, because a sum of floats would depend on its order, which is not fixed on CUDA.
    counts = torch.zeros(len(image), NUM_GRAYS, dtype=torch.int32, device=image.device)
    return counts.scatter_add_(1, grays.long(), counted.int())


def quantile_of(grays: Tensor, counts: Tensor, quantile: Tensor | float) -> Tensor:
    """Return the smallest of rising gray values that is at least as bright as a part of the pixels, float32 (B, 1).

    Args:
        grays: float32 (B, NUM_GRAYS), not falling.
        counts: int32 (B, NUM_GRAYS), how often they occur.
        quantile: the part of the pixels, for all images or (B, 1).
    """
    sums = counts.cumsum(1)
    index = (sums < quantile * sums[:, -1:] - 0.01).sum(1, keepdim=True)  # a hundredth of a pixel, for the rounding
    return grays.gather(1, index.clamp_max(NUM_GRAYS - 1))


def median_of(counts: Tensor) -> Tensor:
    """Return the median gray value as a number from 0 to 255, int64 (B, 1); the upper one if two are in the middle.

    It is 256 if nothing was counted.

    Args:
        counts: int32 (B, NUM_GRAYS), how often gray values occur.
    """
    sums = counts.cumsum(1)
    return (2 * sums <= sums[:, -1:]).sum(1, keepdim=True)


def _middle(image: Tensor, dim: int, fraction: float) -> Tensor:
    """Return the middle part of images along one dimension."""
    start = round(image.shape[dim] * (1.0 - fraction) / 2.0)
    return image.narrow(dim, start, image.shape[dim] - 2 * start)


def _reach_an_edge(is_bar: Tensor, dim: int) -> Tensor:
    """Return which rows or columns are bars that reach an edge without a gap, bool."""
    bars = is_bar.to(torch.uint8)
    return (bars.cumprod(dim) + bars.flip(dim).cumprod(dim).flip(dim)) > 0


def _grid(image: Tensor) -> Tensor:
    """Return a grid of at most GRID_SIDE_PIXELS per side of the pixels of images, (B, pixels)."""
    down, across = (-(-side // GRID_SIDE_PIXELS) for side in image.shape[2:])
    return image[..., ::down, ::across].flatten(1)


def _saturate(grays: Tensor, counts: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return the gray values after parts of the pixels were saturated, as a stretch does.

    If the part of the brightest is 0, none is: pixels that are not counted may be brighter than those that are.
    """
    brightest = torch.where(high > 0.0, quantile_of(grays, counts, 1.0 - high), 1.0)
    return grays.clamp(quantile_of(grays, counts, low), brightest)


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
