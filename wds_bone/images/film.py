"""Convert the values of a film to 8-bit gray.

In: a `Film`: the stored values, and the two that mean black and white.
Out: uint8 (H, W), 255 white.
Invariant: the range comes from the file or from `stretch`; it is never guessed from the values.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wds_bone.errors import ConfigError, ImageError

MIN_RANGE_SHARE = 0.25


@dataclass(frozen=True)
class Film:
    """The values of a film, (H, W) of any numeric dtype, and what they mean.

    `black` is above `white` if large values are dark. `range_is_stated` is False if black and white are only the limits
    of the stored bits and the values may use a small part of them, such as 12 of 16 bits.
    """

    values: NDArray[Any]
    black: float
    white: float
    range_is_stated: bool = True


def gray_image(film: Film, stretch: tuple[float, float] | None, *, where: str) -> NDArray[np.uint8]:
    """Return the film as uint8 (H, W), 0 black and 255 white; values outside the range are clipped.

    Args:
        film: the values.
        stretch: the two percentiles of brightness that become black and white; None takes the range of the film.
        where: the file, for error messages.

    Raises:
        ConfigError: if `stretch` is not two increasing percentiles.
        ImageError: if the values leave most of their range unused, or if both percentiles are the same value.
    """
    if stretch is not None:
        return _scale(film.values, *_percentiles(film, stretch, where))
    if not film.range_is_stated:
        _check_range_is_used(film, where)
    return _scale(film.values, film.black, film.white)


def _percentiles(film: Film, stretch: tuple[float, float], where: str) -> tuple[float, float]:
    """Return the values that become black and white."""
    dark, bright = stretch
    if not 0 <= dark < bright <= 100:
        do = "use two percentiles, such as 1 99"
        raise ConfigError(
            "stretch is out of range", expected="0 <= LOW < HIGH <= 100", got=f"{dark:g} {bright:g}", do=do
        )
    wanted = (dark, bright) if film.black < film.white else (100 - dark, 100 - bright)
    black, white = np.percentile(film.values, wanted)
    if black == white:
        raise ImageError(
            f"{where}: the film has no contrast to stretch",
            expected=f"different values at the percentiles {dark:g} and {bright:g}",
            got=f"{black:g} at both",
            do="leave the film out, or use percentiles that are further apart",
        )
    return float(black), float(white)


def _check_range_is_used(film: Film, where: str) -> None:
    low, high, range_ends = film.values.min(), film.values.max(), sorted((film.black, film.white))
    if float(high) - float(low) < MIN_RANGE_SHARE * (range_ends[1] - range_ends[0]):
        raise ImageError(
            f"{where}: the film uses too little of its range and would be almost uniformly gray",
            expected=f"values that span at least a quarter of {range_ends[0]:g} to {range_ends[1]:g}",
            got=f"{low:g} to {high:g}",
            do="rescale all films by the same factor, or make the training shards with --stretch 1 99",
        )


def _scale(values: NDArray[Any], black: float, white: float) -> NDArray[np.uint8]:
    if values.dtype == np.uint8 and (black, white) == (0, 255):
        gray: NDArray[np.uint8] = values
        return gray
    brightness: NDArray[np.float32] = (values.astype(np.float32) - black) * (255 / (white - black))
    return np.rint(np.clip(brightness, 0, 255)).astype(np.uint8)
