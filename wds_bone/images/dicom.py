"""Decode DICOM to a `Film`.

In: the contents of a file, with or without preamble.
Out: its pixels, the values they mean after modality LUT and VOI, and which of them mean black and white.
Invariant: the header is checked before anything is decoded, and a compressed film is decoded only if its codestream
states the size of the header; a film without VOI takes the full range of its stored bits.

This module is imported only for the first DICOM file, because pydicom is an optional dependency.
"""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from typing import Any

from numpy.typing import NDArray
from pydicom.datadict import tag_for_keyword
from pydicom.encaps import get_frame
from pydicom.filereader import read_partial
from pydicom.multival import MultiValue
from pydicom.pixels import get_decoder
from pydicom.pixels.decoders.base import Decoder
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
)

from wds_bone.errors import ImageError
from wds_bone.images.codestream import read_codestream
from wds_bone.images.dicom_values import PixelLayout, check_spare_bits, film_of, read_number
from wds_bone.images.faults import check_pixels_are_square, check_size, damage_error, film_error, frame_count_error
from wds_bone.images.film import Film

_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")
_MAX_ELEMENTS = 100_000
_GRAYS = ("MONOCHROME1", "MONOCHROME2")
_DO_DECODE = (
    "fetch or export the file again, or, if a decoder is missing, run `pip install pylibjpeg pylibjpeg-libjpeg "
    "pylibjpeg-openjpeg`"
)
_CODESTREAMS = (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes, *JPEG2000TransferSyntaxes)
# The bit patterns are wanted as they are; `PixelLayout` knows which bits and signs to use.
_AS_STORED = {
    "raw": True,
    "correct_unused_bits": False,
    "apply_j2k_sign_correction": False,
    "apply_jls_sign_correction": False,
}


def decode_dicom(contents: bytes, *, with_voi: bool, where: str) -> Film:
    """Return the film in a DICOM file of one gray frame.

    Args:
        contents: the bytes of the file.
        with_voi: whether to apply the VOI LUT or the first window; False takes the range of the stored bits.
        where: the file, for error messages.

    Raises:
        ImageError: if the film is too large, damaged or in color, has several frames, pixels that are not square or
            more than 16 bits, or has an unsupported compression, or if an element of its header is wrong.
    """
    with _damage_errors(contents, where):
        return _read_film(contents, with_voi=with_voi, where=where)


def read_patient_sex(head: bytes, *, where: str) -> str | None:
    """Return the text of PatientSex, or None if there is no such element.

    Args:
        head: the first bytes of a file, at least up to this element.
        where: the file, for error messages.

    Raises:
        ImageError: if the header is damaged.
    """
    with _damage_errors(head, where):
        dataset = _read_elements(head, up_to=tag_for_keyword("PatientSex"), where=where)
        sex = dataset.get("PatientSex")
    return None if sex is None else str(sex)


@contextmanager
def _damage_errors(contents: bytes, where: str) -> Iterator[None]:
    """Convert the exceptions of pydicom and its decoders, which are arbitrary for damaged files, to `ImageError`."""
    try:
        yield
    except ImageError:
        raise
    except Exception as error:
        raise damage_error(where, contents, error, do=_DO_DECODE) from error


def _read_elements(contents: bytes, *, up_to: int | None = None, where: str) -> Any:
    """Return the data set up to an element, or all of it."""
    if DeflatedExplicitVRLittleEndian.encode() in contents:
        problem = "the DICOM file is deflated and could expand to any size"
        raise film_error(where, problem, "a transfer syntax that is not deflated", "deflated")
    return read_partial(io.BytesIO(contents), _stop_after_too_many_elements(where, up_to), force=True)


def _read_film(contents: bytes, *, with_voi: bool, where: str) -> Film:
    dataset = _read_elements(contents, where=where)
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = _infer_transfer_syntax(*dataset.original_encoding)
    _check_is_single_film(dataset, where)
    is_inverted, stated = _is_inverted(dataset, where), _pixel_layout(dataset, where)
    decoder = _find_decoder(dataset.file_meta.TransferSyntaxUID, where)
    layout = _compressed_layout(dataset, stated, contents, where) if decoder.UID in _CODESTREAMS else stated
    if not decoder.UID.is_encapsulated:
        _check_num_rows(dataset, layout, where)
    pixels = _read_pixels(dataset, decoder)
    if layout == stated:
        check_spare_bits(dataset, layout, pixels, where=where)
    film = film_of(pixels, dataset, layout, num_stated_bits=stated.num_bits, with_voi=with_voi, where=where)
    return replace(film, black=film.white, white=film.black) if is_inverted else film


def _stop_after_too_many_elements(where: str, last_tag: int | None) -> Callable[..., bool]:
    num_elements = count()

    def stop(tag: int, *_: object) -> bool:
        if last_tag is not None and tag > last_tag:
            return True
        if next(num_elements) >= _MAX_ELEMENTS:
            raise film_error(where, "the DICOM header is too long", f"at most {_MAX_ELEMENTS:,} elements", "more")
        return False

    return stop


def _infer_transfer_syntax(is_implicit: bool | None, is_little_endian: bool | None) -> UID:
    if is_implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if is_little_endian else ExplicitVRBigEndian


def _check_is_single_film(dataset: Any, where: str) -> None:
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        raise film_error(where, "the pixels are floating-point numbers", "pixels of 8 or 16 bits", "floating point")
    if "PixelData" not in dataset:
        raise film_error(where, "the DICOM file has no image", "pixel data", dataset.get("Modality") or "none")
    rows, columns = (int(read_number(dataset, name, where=where)) for name in ("Rows", "Columns"))
    check_size(rows, columns, where=where)
    num_frames = int(read_number(dataset, "NumberOfFrames", 1, where=where)) or 1
    if num_frames != 1:
        raise frame_count_error(where, f"{num_frames} frames")
    if dataset.get("PhotometricInterpretation") not in _GRAYS or dataset.get("SamplesPerPixel") != 1:
        raise film_error(
            where,
            "the DICOM film is in color or has no photometric interpretation",
            f"{' or '.join(_GRAYS)}, one sample per pixel",
            f"{dataset.get('PhotometricInterpretation')}, {dataset.get('SamplesPerPixel')} samples per pixel",
            do="export the film in gray, or save it as an 8-bit PNG, which may be gray or RGB",
        )
    for name in _SPACINGS:
        spacing = dataset.get(name)
        if isinstance(spacing, MultiValue) and len(spacing) == 2:
            check_pixels_are_square(name, *map(float, spacing), where=where)


def _is_inverted(dataset: Any, where: str) -> bool:
    """Return whether the lowest value is white (PS3.3 C.7.6.3.1.2); the shape INVERSE says the same once more."""
    is_inverted: bool = dataset.PhotometricInterpretation == "MONOCHROME1"
    if dataset.get("PresentationLUTShape") == "INVERSE" and not is_inverted:
        problem = "the film contradicts itself about which values are white"
        expected = "PresentationLUTShape IDENTITY with MONOCHROME2, or INVERSE with MONOCHROME1 (PS3.3 C.8.11.3)"
        raise film_error(where, problem, expected, "INVERSE with MONOCHROME2")
    return is_inverted


def _pixel_layout(dataset: Any, where: str) -> PixelLayout:
    cell_bits, num_bits = (int(read_number(dataset, name, where=where)) for name in ("BitsAllocated", "BitsStored"))
    high_bit = int(read_number(dataset, "HighBit", num_bits - 1, where=where))
    if cell_bits not in (8, 16) or not 1 <= num_bits <= high_bit + 1 <= cell_bits:
        problem = "the bits of the pixels are not supported"
        expected = "BitsAllocated 8 or 16, and BitsStored and HighBit within them"
        raise film_error(
            where, problem, expected, f"BitsAllocated {cell_bits}, BitsStored {num_bits}, HighBit {high_bit}"
        )
    return PixelLayout(num_bits, high_bit, cell_bits, is_signed=dataset.get("PixelRepresentation") == 1)


def _find_decoder(syntax: UID, where: str) -> Decoder:
    try:
        return get_decoder(syntax)
    except NotImplementedError as error:
        expected, do = "JPEG, JPEG-LS, JPEG 2000, RLE or none", "export the film without compression"
        raise film_error(where, "the compression is not supported", expected, syntax.name, do=do) from error


def _compressed_layout(dataset: Any, layout: PixelLayout, contents: bytes, where: str) -> PixelLayout:
    """Return which bits of a decoded pixel hold its value, after comparing the codestream with the header."""
    found = read_codestream(get_frame(dataset.PixelData, 0, number_of_frames=1))
    if found is None:
        raise damage_error(where, contents, "no JPEG or JPEG 2000 header", do=_DO_DECODE)
    header = f"{dataset.Columns} x {dataset.Rows} pixels, 1 component, at most {layout.cell_bits} bits"
    got = f"{found.width} x {found.height} pixels, {found.num_components} components, {found.num_bits} bits"
    stated = (dataset.Rows, dataset.Columns, 1)
    if (found.height, found.width, found.num_components) != stated or found.num_bits > layout.cell_bits:
        raise film_error(where, "the compressed film differs from its header", header, got)
    if found.num_bits > layout.num_bits and found.num_bits > layout.high_bit:
        return layout  # whole cells were compressed, with whatever is in their spare bits
    if layout.high_bit != layout.num_bits - 1:
        problem = "it is unclear which bits of the compressed film are its values"
        raise film_error(where, problem, f"HighBit {layout.num_bits - 1}", f"HighBit {layout.high_bit}")
    num_bits = min(found.num_bits, layout.num_bits)
    return replace(layout, num_bits=num_bits, high_bit=num_bits - 1)


def _check_num_rows(dataset: Any, layout: PixelLayout, where: str) -> None:
    """Refuse pixels of more rows than the header states, which would be cut off; less than a row may be padding."""
    row_bytes = dataset.Columns * layout.cell_bits // 8
    num_rows = len(dataset.PixelData or b"") // row_bytes
    if num_rows > dataset.Rows:
        stated = f"{dataset.Rows} rows of {row_bytes:,} bytes"
        raise film_error(where, "the film has more pixels than its header states", stated, f"{num_rows} rows")


def _read_pixels(dataset: Any, decoder: Decoder) -> NDArray[Any]:
    """Return the bit patterns of the pixels, uint8 or uint16 (H, W)."""
    pixels, _ = decoder.as_array(dataset, index=0, **_AS_STORED)
    patterns: NDArray[Any] = pixels.astype(f"u{pixels.itemsize}", copy=False)
    return patterns
