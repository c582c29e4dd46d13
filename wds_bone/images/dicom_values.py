"""Find the value of every number that the pixels of a DICOM film can hold.

In: a data set without multiple frames or colors.
Out: a `Film` with the values after modality LUT and VOI, as a table over all bit patterns of a pixel.
Invariant: the transformations of the file are applied in the order of DICOM PS3.4 N.2 (modality, VOI), and a table or
window that cannot be applied as the standard says is refused. Padding has no value.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.multival import MultiValue

from wds_bone.images.faults import film_error
from wds_bone.images.film import Film

_OVERLAY_GROUPS = range(0x6000, 0x6020, 2)
_OVERLAY_BIT_POSITION, _OVERLAY_DATA = 0x0102, 0x3000


@dataclass(frozen=True)
class PixelLayout:
    """Which bits of a pixel hold its value (PS3.5 8.1.1).

    Attributes:
        num_bits: the bits of the value.
        high_bit: the position of the most significant one.
        cell_bits: all bits of the pixel, 8 or 16.
        is_signed: whether the values are two's complement.
    """

    num_bits: int
    high_bit: int
    cell_bits: int
    is_signed: bool

    @property
    def value_mask(self) -> int:
        """The bits of the value."""
        return ((1 << self.num_bits) - 1) << (self.high_bit - self.num_bits + 1)

    def stored_values(self) -> NDArray[np.int64]:
        """Return the value of each pattern of a pixel, int64 (2 ** cell_bits,)."""
        patterns = np.arange(2**self.cell_bits)
        values = (patterns & self.value_mask) >> (self.high_bit - self.num_bits + 1)
        return _sign_extended(values, self.num_bits) if self.is_signed else values


def read_number(dataset: Any, name: str, default: float | None = None, *, where: str, first: bool = False) -> float:
    """Return the number in an element, or `default` if it is absent or empty.

    Args:
        dataset: a pydicom data set.
        name: the keyword of the element.
        default: the number to return for an absent or empty element; None makes that an error.
        where: the file, for error messages.
        first: whether to return the first of several numbers; otherwise they are an error.

    Raises:
        ImageError: if the element is not a single finite number.
    """
    value = dataset.get(name)
    numbers = value if isinstance(value, MultiValue | list) else [] if value is None or value == "" else [value]
    if not numbers and default is not None:
        return default
    try:
        number = float(numbers[0]) if first or len(numbers) == 1 else float("nan")
    except (IndexError, TypeError, ValueError):
        number = float("nan")
    if not np.isfinite(number):
        raise film_error(where, f"the element {name} is wrong", "one finite number", repr(value))
    return number


def film_of(
    pixels: NDArray[Any], dataset: Any, layout: PixelLayout, *, num_stated_bits: int, with_voi: bool, where: str
) -> Film:
    """Return the film with the values after its modality LUT and its VOI LUT, or else its first window (PS3.3 C.11.2).

    Args:
        pixels: the bit patterns of all pixels, uint8 or uint16 (H, W).
        dataset: a pydicom data set.
        layout: which bits of a pixel hold its value.
        num_stated_bits: the bits that the film states to use, whose limits are black and white without VOI.
        with_voi: whether to apply the VOI LUT or the first window.
        where: the file, for error messages.

    Raises:
        ImageError: if a table, a window or an element is wrong.
    """
    stored, is_signed = layout.stored_values(), layout.is_signed
    padding = _is_padding(dataset, layout, stored, where)
    lowest = -(2 ** (num_stated_bits - 1)) if is_signed else 0
    stated = np.arange(lowest, lowest + 2**num_stated_bits)  # a LUT often states more bits than its entries use
    with np.errstate(over="ignore"):
        values, all_values = (_apply_modality(each, dataset, is_signed, where) for each in (stored, stated))
        has_lut = with_voi and bool(dataset.get("VOILUTSequence"))
        if has_lut:
            luts = dataset.VOILUTSequence
            values, all_values = (_apply_lut(np.rint(each), luts, is_signed, where) for each in (values, all_values))
        elif with_voi and _has_window(dataset):
            values, black, white = _apply_window(values, dataset, where)
            return Film(pixels, black, white, values=np.where(padding, np.nan, values))
    black, white = float(all_values.min()), float(all_values.max())
    return Film(pixels, black, white, range_is_stated=has_lut, values=np.where(padding, np.nan, values))


def check_spare_bits(dataset: Any, layout: PixelLayout, pixels: NDArray[Any], *, where: str) -> None:
    """Refuse bits that are neither of the values nor of an overlay, padding or a sign: the stated bits may be wrong.

    Args:
        dataset: a pydicom data set.
        layout: which bits of a pixel hold its value.
        pixels: the bit patterns of all pixels.
        where: the file, for error messages.

    Raises:
        ImageError: if there are such bits.
    """
    spare = (2**layout.cell_bits - 1) & ~layout.value_mask & ~_overlay_bits(dataset)
    if not spare or not int(np.bitwise_or.reduce(pixels, axis=None)) & spare:
        return
    patterns, stored = np.arange(2**layout.cell_bits), layout.stored_values()
    upper = spare & ~(2 ** (layout.high_bit + 1) - 1)
    is_sign = layout.is_signed & (stored < 0) & (patterns & spare == upper)
    is_wrong = (patterns & spare != 0) & ~is_sign & ~_is_padding(dataset, layout, stored, where)
    if any(is_wrong[row].any() for row in pixels):
        problem = "the pixels use bits outside the stored bits, and no overlay explains them"
        expected = f"bits {layout.high_bit - layout.num_bits + 1} to {layout.high_bit} (BitsStored {layout.num_bits})"
        raise film_error(where, problem, expected, f"values up to {pixels.max()}")


def _overlay_bits(dataset: Any) -> int:
    """Return the bits of the pixels that hold overlays, which is retired (PS3.5 8.1.2)."""
    groups = (group for group in _OVERLAY_GROUPS if (group, _OVERLAY_DATA) not in dataset)
    elements = [dataset.get((group, _OVERLAY_BIT_POSITION)) for group in groups]
    return sum({1 << int(element.value) for element in elements if element is not None and element.value is not None})


def _apply_modality(stored: NDArray[Any], dataset: Any, is_signed: bool, where: str) -> NDArray[np.float64]:
    if dataset.get("ModalityLUTSequence"):
        return _apply_lut(stored, dataset.ModalityLUTSequence, is_signed, where)
    slope = read_number(dataset, "RescaleSlope", 1, where=where)
    if slope == 0:
        raise film_error(where, "the rescale slope gives all pixels the same value", "a slope other than 0", "0")
    return stored * slope + read_number(dataset, "RescaleIntercept", 0, where=where)


def _apply_lut(values: NDArray[Any], luts: Any, is_signed: bool, where: str) -> NDArray[np.float64]:
    """Return the entries of the first LUT; values before its first or after its last entry get that entry."""
    lut = luts[0]
    numbers = lut.get("LUTDescriptor")
    if not isinstance(numbers, MultiValue | list) or len(numbers) != 3 or "LUTData" not in lut:
        raise film_error(
            where, "a lookup table is incomplete", "LUTDescriptor (three numbers) and LUTData", repr(numbers)
        )
    num_entries, first, num_bits = (int(number) for number in numbers)
    entries = _lut_entries(lut, num_bits)
    if len(entries) != (num_entries or 2**16):
        raise film_error(where, "a lookup table has the wrong length", f"{num_entries or 2**16} entries", len(entries))
    first = first - 2**16 if first >= 2**15 and (is_signed or values.min() < 0) else first
    mapped: NDArray[np.float64] = entries.astype(np.float64)[
        np.clip(values - first, 0, len(entries) - 1).astype(np.intp)
    ]
    return mapped


def _lut_entries(lut: Any, num_bits: int) -> NDArray[Any]:
    """Return the entries as stored: a list of numbers, or words of 16 bits, which may hold two entries of 8 bits."""
    data, num_entries = lut.LUTData, int(lut.LUTDescriptor[0]) or 2**16
    if isinstance(data, bytes):
        order = "<" if lut.original_encoding[1] in (None, True) else ">"
        words = np.frombuffer(data[: len(data) // 2 * 2], f"{order}u2")
    else:
        words = np.atleast_1d(np.asarray(data, np.int64)) & 0xFFFF
    if num_bits <= 8 and len(words) == (num_entries + 1) // 2 < num_entries:
        return words.astype("<u2").view(np.uint8)[:num_entries]
    return words


def _has_window(dataset: Any) -> bool:
    return all(dataset.get(name) not in (None, "", []) for name in ("WindowCenter", "WindowWidth"))


def _apply_window(values: NDArray[np.float64], dataset: Any, where: str) -> tuple[NDArray[np.float64], float, float]:
    """Return the values, black and white: a linear window is a range (PS3.3 C.11.2.1)."""
    center, width = (read_number(dataset, name, where=where, first=True) for name in ("WindowCenter", "WindowWidth"))
    function = dataset.get("VOILUTFunction") or "LINEAR"
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise film_error(where, "the VOI function is not known", "LINEAR, LINEAR_EXACT or SIGMOID", function)
    min_width = 1 if function == "LINEAR" else 0
    if width <= min_width:
        raise film_error(where, "the VOI window is too narrow", f"a width above {min_width}", f"{width:g}")
    if function == "SIGMOID":
        return 1 / (1 + np.exp(-4 * (values - center) / width)), 0, 1
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    return values, center - width / 2, center + width / 2


def _is_padding(dataset: Any, layout: PixelLayout, stored: NDArray[np.int64], where: str) -> NDArray[np.bool_]:
    """Return which patterns pad the film to its size (PS3.3 C.7.5.1.1.2)."""
    if dataset.get("PixelPaddingValue") is None:
        return np.zeros(len(stored), np.bool_)
    value = int(read_number(dataset, "PixelPaddingValue", where=where))
    ends = value, int(read_number(dataset, "PixelPaddingRangeLimit", value, where=where))
    patterns = np.arange(2**layout.cell_bits)
    if layout.is_signed:
        patterns = _sign_extended(patterns, layout.cell_bits)
        ends = tuple(_sign_extended(np.array(ends) & 0xFFFF, 16).tolist())
    low, high = min(ends), max(ends)
    return ((patterns >= low) & (patterns <= high)) | ((stored >= low) & (stored <= high))


def _sign_extended(values: NDArray[np.int64], num_bits: int) -> NDArray[np.int64]:
    return np.where(values >= 2 ** (num_bits - 1), values - 2**num_bits, values)
