"""Decode DICOM to a `Film`; imported only when a DICOM is met, because pydicom is an extra.

In: the contents of a file, with or without preamble. Out: its values after modality LUT and VOI, with what is black
and white. Invariant: the transformations come in the order of DICOM PS3.4 N.2 (modality, VOI, presentation), each as
the file gives it; a file without VOI is shown over the whole range of its bits.
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
from wds_bone.images.faults import check_size, damaged, several_frames, unknown_colors
from wds_bone.images.film import Film

_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio")
_SPACING_TOLERANCE = 0.01
_META_BYTES = 1024


def decode_dicom(contents: bytes, *, with_voi: bool, where: str) -> Film:
    """Return the film in a DICOM file of one gray frame.

    Args:
        contents: the file.
        with_voi: apply the VOI LUT or the first window; without, the range is that of the stored bits.
        where: the file, for messages.

    Raises:
        ImageError: too large, damaged, several frames, colors, oblong pixels, or compressed in an unknown way.
    """
    if DeflatedExplicitVRLittleEndian.encode() in contents[:_META_BYTES]:
        raise _refused(where, "the DICOM is deflated and could be of any size", "another syntax", "deflated")
    try:
        return _read_film(contents, with_voi=with_voi, where=where)
    except ImageError:
        raise
    except Exception as error:  # pydicom and its decoders raise whatever the broken part leads to
        do = 'fetch or export the file again; decoders of compressed files come with `pip install "wds-bone[dicom]"`'
        raise damaged(where, contents, error, do=do) from error


def _read_film(contents: bytes, *, with_voi: bool, where: str) -> Film:
    dataset = pydicom.dcmread(io.BytesIO(contents), force=True)
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = _bare_syntax(*dataset.original_encoding)
    _check_is_one_film(dataset, where)
    film = _shown_film(dataset, with_voi=with_voi, where=where)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        return replace(film, black=film.white, white=film.black)
    return film


def _bare_syntax(is_implicit: bool | None, is_little_endian: bool | None) -> UID:
    if is_implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if is_little_endian else ExplicitVRBigEndian


def _check_is_one_film(dataset: Any, where: str) -> None:
    if "PixelData" not in dataset:
        raise _refused(where, "the DICOM holds no picture", "pixel data", dataset.get("Modality") or "none")
    check_size(int(dataset.Rows), int(dataset.Columns), where=where)
    num_frames = int(dataset.get("NumberOfFrames") or 1)
    if num_frames != 1:
        raise several_frames(where, f"{num_frames} frames")
    if dataset.PhotometricInterpretation not in ("MONOCHROME1", "MONOCHROME2") or dataset.SamplesPerPixel != 1:
        raise unknown_colors(where, dataset.PhotometricInterpretation)
    for name in _SPACINGS:
        spacing = dataset.get(name)
        if isinstance(spacing, MultiValue) and len(spacing) == 2:
            _check_is_square(name, *map(float, spacing), where=where)


def _check_is_square(name: str, down: float, across: float, *, where: str) -> None:
    if abs(down - across) > _SPACING_TOLERANCE * across:
        raise _refused(where, "the pixels are oblong", f"{name} with two equal numbers", f"{down:g} and {across:g}")


def _shown_film(dataset: Any, *, with_voi: bool, where: str) -> Film:
    """Return the film as its VOI LUT shows it, else its first window, else all of its bits (PS3.3 C.11.2)."""
    values = apply_modality_lut(dataset.pixel_array, dataset)
    every_value = apply_modality_lut(_every_stored_value(dataset), dataset)
    if with_voi and dataset.get("VOILUTSequence"):
        values, every_value = (apply_voi(np.rint(each).astype(np.int32), dataset) for each in (values, every_value))
    elif with_voi and dataset.get("WindowWidth") is not None and dataset.get("WindowCenter") is not None:
        return _window(values, dataset, where)
    stated = with_voi and bool(dataset.get("VOILUTSequence"))
    return Film(values, black=float(every_value.min()), white=float(every_value.max()), range_is_stated=stated)


def _every_stored_value(dataset: Any) -> NDArray[Any]:
    # The bits that a LUT states are often more than its entries use; what it makes of every value is its true range.
    num_values = 2**dataset.BitsStored
    lowest = -num_values // 2 if dataset.PixelRepresentation == 1 else 0
    return np.arange(lowest, lowest + num_values, dtype=np.int32)


def _window(values: NDArray[Any], dataset: Any, where: str) -> Film:
    """Return the film through its first window, the linear ones as black and white points (PS3.3 C.11.2.1)."""
    center, width = _first(dataset.WindowCenter), _first(dataset.WindowWidth)
    function = dataset.get("VOILUTFunction") or "LINEAR"
    narrowest = 1 if function == "LINEAR" else 0
    if width <= narrowest:
        raise _refused(where, "the window of the film shows nothing", f"a width above {narrowest}", f"{width:g}")
    if function == "SIGMOID":
        return Film(1 / (1 + np.exp(-4 * (values - center) / width)), black=0, white=1)
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    return Film(values, black=center - width / 2, white=center + width / 2)


def _first(value: Any) -> float:
    return float(value[0] if isinstance(value, MultiValue) else value)


def _refused(where: str, problem: str, expected: str, got: object) -> ImageError:
    return ImageError(
        f"{where}: {problem}", expected=expected, got=got, do="leave the film out, or export it otherwise"
    )
