"""Write small DICOM films for the tests."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian


def dicom_bytes(values: NDArray[Any], *, headerless: bool = False, **elements: Any) -> bytes:
    """Return the bytes of a DICOM file of `values`, (H, W) uint16 or int16 with 12 bits stored.

    Args:
        values: the pixels.
        headerless: whether to omit the preamble and the file meta information.
        elements: data elements to add or replace, by keyword; those of a `Dataset` are added under any name.
    """
    dataset = _film(values, ImplicitVRLittleEndian if headerless else ExplicitVRLittleEndian, elements)
    buffer = io.BytesIO()
    if headerless:
        dataset.file_meta = FileMetaDataset()
        dataset.save_as(buffer, implicit_vr=True, little_endian=True, enforce_file_format=False)
    else:
        dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def compressed_dicom_bytes(values: NDArray[Any], codestream: bytes, syntax: str, **elements: Any) -> bytes:
    """Return the bytes of a DICOM file whose only frame is `codestream`."""
    dataset = _film(values, syntax, {"PixelData": encapsulate([codestream]), **elements})
    dataset["PixelData"].is_undefined_length = True
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def lut_sequence(entries: NDArray[Any], *, first: int = 0, bits: int = 16) -> list[Dataset]:
    """Return a modality or VOI LUT sequence with one LUT."""
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [len(entries) % 2**16, first, bits])
    table.add_new("LUTData", "US", entries.tolist())
    table.ModalityLUTType = "US"
    return [table]


def _film(values: NDArray[Any], syntax: str, elements: dict[str, Any]) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID = ComputedRadiographyImageStorage
    dataset.SOPInstanceUID = "1.2.3"
    dataset.Modality = "CR"
    dataset.Rows, dataset.Columns = values.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = int(values.dtype == np.int16)
    dataset.add_new("PixelData", "OW", values.tobytes())
    for name, value in elements.items():
        if isinstance(value, Dataset):
            dataset.update(value)
        else:
            setattr(dataset, name, value)
    return dataset
