"""Decode DICOM to a `Film`.

In: the contents of a file, with or without preamble.
Out: its values after modality LUT and VOI, and which of them mean black and white.
Invariant: the transformations of the file are applied in the order of DICOM PS3.4 N.2 (modality, VOI, presentation);
a film without VOI takes the full range of its stored bits.

This module is imported only for the first DICOM file, because pydicom is an optional dependency.
"""

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.multival import MultiValue
from pydicom.pixels.processing import apply_modality_lut, apply_voi
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from wds_bone.errors import ImageError
from wds_bone.images.faults import check_size, color_error, damage_error, frame_count_error
from wds_bone.images.film import Film

_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio")
_SPACING_TOLERANCE = 0.01
_META_BYTES = 1024


def decode_dicom(contents: bytes, *, with_voi: bool, where: str) -> Film:
    """Return the film in a DICOM file of one gray frame.

    Args:
        contents: the bytes of the file.
        with_voi: whether to apply the VOI LUT or the first window; False takes the range of the stored bits.
        where: the file, for error messages.

    Raises:
        ImageError: if the film is too large, damaged or in color, has several frames or pixels that are not square, or
            has an unsupported compression.
    """
    if DeflatedExplicitVRLittleEndian.encode() in contents[:_META_BYTES]:
        problem = "the DICOM file is deflated and could expand to any size"
        raise _film_error(where, problem, "a transfer syntax that is not deflated", "deflated")
    try:
        return _read_film(contents, with_voi=with_voi, where=where)
    except ImageError:
        raise
    except Exception as error:  # pydicom and its decoders raise arbitrary exceptions for damaged files
        decoders = "pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"
        do = f"fetch or export the file again, or, if a decoder is missing, run `pip install {decoders}`"
        raise damage_error(where, contents, error, do=do) from error


def _read_film(contents: bytes, *, with_voi: bool, where: str) -> Film:
    dataset = pydicom.dcmread(io.BytesIO(contents), force=True)
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = _infer_transfer_syntax(*dataset.original_encoding)
    _check_is_single_film(dataset, where)
    film = _apply_luts(dataset, with_voi=with_voi, where=where)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        return replace(film, black=film.white, white=film.black)
    return film


def _infer_transfer_syntax(is_implicit: bool | None, is_little_endian: bool | None) -> UID:
    if is_implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if is_little_endian else ExplicitVRBigEndian


def _check_is_single_film(dataset: Any, where: str) -> None:
    if "PixelData" not in dataset:
        raise _film_error(where, "the DICOM file has no image", "pixel data", dataset.get("Modality") or "none")
    check_size(int(dataset.Rows), int(dataset.Columns), where=where)
    num_frames = int(dataset.get("NumberOfFrames") or 1)
    if num_frames != 1:
        raise frame_count_error(where, f"{num_frames} frames")
    if dataset.PhotometricInterpretation not in ("MONOCHROME1", "MONOCHROME2") or dataset.SamplesPerPixel != 1:
        raise color_error(where, dataset.PhotometricInterpretation)
    for name in _SPACINGS:
        spacing = dataset.get(name)
        if isinstance(spacing, MultiValue) and len(spacing) == 2:
            _check_pixels_are_square(name, *map(float, spacing), where=where)


def _check_pixels_are_square(name: str, down: float, across: float, *, where: str) -> None:
    if abs(down - across) > _SPACING_TOLERANCE * across:
        raise _film_error(
            where, "the pixels are not square", f"two equal numbers in {name}", f"{down:g} and {across:g}"
        )


def _apply_luts(dataset: Any, *, with_voi: bool, where: str) -> Film:
    """Return the film after its modality LUT and then its VOI LUT, or else its first window (PS3.3 C.11.2)."""
    values = apply_modality_lut(dataset.pixel_array, dataset)
    all_values = apply_modality_lut(_all_stored_values(dataset), dataset)
    if with_voi and dataset.get("VOILUTSequence"):
        values, all_values = (apply_voi(np.rint(each).astype(np.int32), dataset) for each in (values, all_values))
    elif with_voi and dataset.get("WindowWidth") is not None and dataset.get("WindowCenter") is not None:
        return _apply_window(values, dataset, where)
    stated = with_voi and bool(dataset.get("VOILUTSequence"))
    return Film(values, black=float(all_values.min()), white=float(all_values.max()), range_is_stated=stated)


def _all_stored_values(dataset: Any) -> NDArray[Any]:
    # A LUT often states more bits than its entries use, so its range is found by applying it to every stored value.
    num_values = 2**dataset.BitsStored
    lowest = -num_values // 2 if dataset.PixelRepresentation == 1 else 0
    return np.arange(lowest, lowest + num_values, dtype=np.int32)


def _apply_window(values: NDArray[Any], dataset: Any, where: str) -> Film:
    """Return the film with its first window applied, a linear one as black and white points (PS3.3 C.11.2.1)."""
    center, width = _first_number(dataset.WindowCenter), _first_number(dataset.WindowWidth)
    function = dataset.get("VOILUTFunction") or "LINEAR"
    min_width = 1 if function == "LINEAR" else 0
    if width <= min_width:
        raise _film_error(where, "the VOI window is too narrow", f"a width above {min_width}", f"{width:g}")
    if function == "SIGMOID":
        return Film(1 / (1 + np.exp(-4 * (values - center) / width)), black=0, white=1)
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    return Film(values, black=center - width / 2, white=center + width / 2)


def _first_number(value: Any) -> float:
    return float(value[0] if isinstance(value, MultiValue) else value)


def _film_error(where: str, problem: str, expected: str, got: object) -> ImageError:
    return ImageError(
        f"{where}: {problem}", expected=expected, got=got, do="leave the film out, or export it with other settings"
    )
