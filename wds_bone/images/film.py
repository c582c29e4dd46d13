"""Convert the values of a film to 8-bit gray, and refuse films without information.

In: a `Film`: the stored numbers, what they mean, and the two values that mean black and white.
Out: uint8 (H, W), 255 white.
Invariant: the range comes from the file or from `stretch`; it is never guessed from the values. A picture that would be
(almost) one gray is refused.

Every step from a stored number to its gray is a function of that number alone, so a film is converted by one table, and
everything that is judged about it follows from one histogram.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wds_bone.errors import ConfigError, ImageError

MIN_RANGE_SHARE = 0.25
# Up to one pixel in 10,000 may be defective, and does not count as a use of the range.
_DEFECT_SHARE = 0.0001
# Of 12 bits stored as the lower bits of 16, at most 16 gray levels above black remain. Real films need more: of the
# 12,611 training films of RSNA (with 100 pixels) the one with the least contrast has 19.
MIN_GRAY_RANGE = 17
MIN_GRAY_LEVELS = 5
_COUNTED_SHARE = 0.99
# Where the values may use a small part of their range, a marker of up to 5 % of the pixels does not hide it.
_COUNTED_SHARE_OF_UNSTATED_RANGE = 0.95
_MIN_GRAY_SHARE = 0.02
_ROWS_AT_A_TIME = 256
_MULTIPLY = (
    "multiply the values of all films by the same factor, which is 16 for 12 bits in a 16-bit file, and save them "
    "again; or make the training shards with --stretch 1 99"
)


@dataclass(frozen=True)
class Film:
    """The stored numbers of a film, and what they mean.

    Attributes:
        stored: uint8 or uint16 (H, W).
        black: the value that means black; it is above `white` if large values are dark.
        white: the value that means white.
        range_is_stated: False if black and white are only the limits of the stored bits and the values may use a small
            part of them, such as 12 of 16 bits.
        values: the value of each number that can be stored, float (256,) or (65536,), NaN for padding, which becomes
            black; None if the numbers are the values.
    """

    stored: NDArray[Any]
    black: float
    white: float
    range_is_stated: bool = True
    values: NDArray[np.float64] | None = None


def gray_image(film: Film, stretch: tuple[float, float] | None, *, where: str) -> NDArray[np.uint8]:
    """Return the film as uint8 (H, W), 0 black and 255 white; values outside the range are clipped.

    Args:
        film: the film.
        stretch: the two percentiles of brightness that become black and white; None takes the range of the film.
        where: the file, for error messages.

    Raises:
        ConfigError: if `stretch` is not two increasing percentiles.
        ImageError: if black and white are the same value or not finite, if the values leave most of their range unused,
            or if the image would be almost uniformly gray.
    """
    values = np.arange(np.iinfo(film.stored.dtype).max + 1.0) if film.values is None else film.values
    counts = _count_stored(film.stored)
    black, white = _limits(film, values, counts, stretch, where)
    grays = _gray_levels(values, black, white)
    share = _COUNTED_SHARE if film.range_is_stated or stretch else _COUNTED_SHARE_OF_UNSTATED_RANGE
    _check_information(np.bincount(grays, weights=counts, minlength=256), counted_share=share, where=where)
    if film.stored.dtype == np.uint8 and np.array_equal(grays, np.arange(256)):
        image: NDArray[np.uint8] = film.stored
        return image
    return _look_up(grays, film.stored)


def _check_information(counts: NDArray[Any], *, counted_share: float, where: str) -> None:
    """Refuse an image that is almost uniformly gray, such as one whose window misses the values.

    Black and white pixels are not judged, because a background, a border or a marker can be of any size.

    Args:
        counts: the number of pixels of each gray level, (256,).
        counted_share: the share of the other pixels that is judged.
        where: the file, for error messages.

    Raises:
        ImageError: if the other pixels are too few, or `counted_share` of them are within too few gray levels.
    """
    inner = counts[1:-1]
    share = inner.sum() / counts.sum()
    low, high = _narrowest_range(inner, counted_share)
    num_levels = np.count_nonzero(inner[low : high + 1])
    if share < _MIN_GRAY_SHARE or high - low + 1 < MIN_GRAY_RANGE or num_levels < MIN_GRAY_LEVELS:
        raise ImageError(
            f"{where}: the film would be almost uniformly gray",
            expected=f"at least {_MIN_GRAY_SHARE:.0%} of the pixels between black and white, {counted_share:.0%} of "
            f"these within a range of at least {MIN_GRAY_RANGE} of the 254 gray levels, at least {MIN_GRAY_LEVELS} of "
            "them used",
            got=f"{share:.1%} of the pixels between black and white"
            + (f", within gray {low + 1} to {high + 1}, {num_levels} levels used" if share else ""),
            do="export the film again with a window and a bit depth that fit its values, or leave it out",
        )


def _count_stored(stored: NDArray[Any]) -> NDArray[np.int64]:
    if stored.dtype == np.uint8:  # Pillow counts bytes four times as fast as NumPy
        return np.array(Image.fromarray(stored).histogram())
    counts = np.zeros(np.iinfo(stored.dtype).max + 1, np.int64)
    for rows in _blocks(stored):
        counts += np.bincount(rows.ravel(), minlength=len(counts))
    return counts


def _look_up(grays: NDArray[np.uint8], stored: NDArray[Any]) -> NDArray[np.uint8]:
    image = np.empty(stored.shape, np.uint8)
    for rows, block in zip(_blocks(stored), _blocks(image), strict=True):
        np.take(grays, rows, out=block)
    return image


def _blocks(pixels: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield a few rows at a time, because NumPy counts and looks up numbers of eight bytes."""
    return (pixels[start : start + _ROWS_AT_A_TIME] for start in range(0, len(pixels), _ROWS_AT_A_TIME))


def _limits(
    film: Film,
    values: NDArray[np.float64],
    counts: NDArray[np.int64],
    stretch: tuple[float, float] | None,
    where: str,
) -> tuple[float, float]:
    """Return the values that become black and white, after checking that they are different."""
    low, high = sorted((film.black, film.white))
    _check_limits(low, high, where)
    is_padding = np.isnan(values)
    if counts[is_padding].sum() == film.stored.size:
        raise ImageError(f"{where}: all pixels are padding", expected="a film", got="none", do="leave the film out")
    values, counts = values[~is_padding], counts[~is_padding]
    if stretch is not None:
        return _percentiles(film, values, counts, stretch, where)
    if not film.range_is_stated:
        _check_range_is_used(values, counts, low, high, where)
    return film.black, film.white


def _narrowest_range(counts: NDArray[Any], share: float) -> tuple[int, int]:
    """Return the first and the last level of the narrowest range of levels that has this share of all pixels."""
    before = np.concatenate([[0], np.cumsum(counts)])
    ends = np.searchsorted(before, before[:-1] + share * before[-1])
    starts = np.flatnonzero(ends < len(before))
    start = starts[np.argmin(ends[starts] - starts)]
    return int(start), max(int(start), int(ends[start]) - 1)


def _percentiles(
    film: Film, values: NDArray[np.float64], counts: NDArray[np.int64], stretch: tuple[float, float], where: str
) -> tuple[float, float]:
    """Return the values that become black and white."""
    dark, bright = stretch
    if not 0 <= dark < bright <= 100:
        do = "use two percentiles, such as 1 99"
        raise ConfigError(
            "stretch is out of range", expected="0 <= LOW < HIGH <= 100", got=f"{dark:g} {bright:g}", do=do
        )
    wanted = (dark, bright) if film.black < film.white else (100 - dark, 100 - bright)
    black, white = (_percentile(values, counts, percent) for percent in wanted)
    if black == white:
        raise ImageError(
            f"{where}: the film has no contrast to stretch",
            expected=f"different values at the percentiles {dark:g} and {bright:g}",
            got=f"{black:g} at both",
            do="leave the film out, or use percentiles that are further apart",
        )
    return black, white


def _percentile(values: NDArray[np.float64], counts: NDArray[np.int64], percent: float) -> float:
    """Return what `np.percentile` would return for all pixels."""
    position = (counts.sum() - 1) * (percent / 100)
    below, above = _sorted_values(values, counts, [int(np.floor(position)), int(np.ceil(position))])
    part = position - np.floor(position)
    return float(above - (above - below) * (1 - part) if part >= 0.5 else below + (above - below) * part)


def _sorted_values(values: NDArray[np.float64], counts: NDArray[np.int64], ranks: list[int]) -> NDArray[np.float64]:
    """Return the values of the pixels that have these ranks when all pixels are sorted by value."""
    order = np.argsort(values, kind="stable")
    return values[order][np.searchsorted(np.cumsum(counts[order]), ranks, side="right")]


def _check_limits(low: float, high: float, where: str) -> None:
    if not (np.isfinite([low, high]).all() and low < high):
        raise ImageError(
            f"{where}: black and white are the same value, or not numbers",
            expected="two different values after the rescale slope, the lookup tables and the window",
            got=f"{low:g} and {high:g}",
            do="export the film again with another rescale slope, lookup table or window, or leave it out",
        )


def _check_range_is_used(
    values: NDArray[np.float64], counts: NDArray[np.int64], low: float, high: float, where: str
) -> None:
    counts = np.where(values < high, counts, 0)  # markers, which usually have the greatest value, do not use the range
    num_pixels = int(counts.sum())
    if num_pixels == 0:
        return  # the image would be white, and is refused for that
    num_defects = int(_DEFECT_SHARE * num_pixels)
    least, greatest = _sorted_values(values, counts, [num_defects, num_pixels - 1 - num_defects])
    if greatest - least < MIN_RANGE_SHARE * (high - low):
        bits = f", as of {int(greatest).bit_length()} bits" if low == 0 <= least else ""
        raise ImageError(
            f"{where}: the film uses too little of its range and would be almost uniformly gray",
            expected=f"values that span at least a quarter of {low:g} to {high:g}",
            got=f"{least:g} to {greatest:g}{bits}",
            do=_MULTIPLY,
        )


def _gray_levels(values: NDArray[np.float64], black: float, white: float) -> NDArray[np.uint8]:
    """Return the gray level of each stored number."""
    with np.errstate(all="ignore"):
        brightness: NDArray[np.float32] = (values.astype(np.float32) - black) * (255 / (white - black))
    return np.rint(np.clip(np.nan_to_num(brightness), 0, 255)).astype(np.uint8)
