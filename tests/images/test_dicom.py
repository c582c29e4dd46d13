"""Test the DICOM transformations (modality LUT, VOI, MONOCHROME1) against the formulas of the standard."""

import contextlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from openjpeg.utils import encode_array
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from tests.images.broken_inputs import flipped
from tests.images.dicom_films import compressed_dicom_bytes, dicom_bytes, lut_sequence
from wds_bone.errors import ConfigError, ImageError
from wds_bone.images.read import read_image

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)
FULL = np.rint(RAMP * (255 / 4095)).astype(np.uint8)


def read_bytes(contents: bytes, folder: Path, **settings: Any) -> NDArray[np.uint8]:
    (folder / "film.dcm").write_bytes(contents)
    return read_image(folder / "film.dcm", **settings)


def window(values: NDArray[Any], center: float, width: float) -> NDArray[Any]:
    """Return `values` after the linear window of DICOM PS3.3 C.11.2.1.2.1, with an output of 0 to 255."""
    gray = ((values - (center - 0.5)) / (width - 1) + 0.5) * 255
    gray = np.where(values <= center - 0.5 - (width - 1) / 2, 0, gray)
    return np.where(values > center - 0.5 + (width - 1) / 2, 255, gray)


@pytest.mark.parametrize("headerless", [False, True])
def test_a_film_without_voi_is_scaled_from_all_its_bits(headerless: bool, tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_bytes(dicom_bytes(RAMP, headerless=headerless), tmp_path), FULL)


def test_monochrome1_is_inverted_after_the_window(tmp_path: Path) -> None:
    plain = read_bytes(dicom_bytes(RAMP, WindowCenter=900, WindowWidth=700), tmp_path)
    inverted = read_bytes(
        dicom_bytes(RAMP, WindowCenter=900, WindowWidth=700, PhotometricInterpretation="MONOCHROME1"), tmp_path
    )
    assert np.abs(inverted.astype(int) - (255 - plain.astype(int))).max() <= 1
    assert inverted[0, 0] == 255
    assert inverted[-1, -1] == 0


def test_a_linear_window_follows_the_standard(tmp_path: Path) -> None:
    image = read_bytes(dicom_bytes(RAMP, WindowCenter=[2000, 1], WindowWidth=[1000, 2]), tmp_path)
    assert np.abs(image - window(RAMP, 2000, 1000)).max() <= 0.51


def test_a_linear_exact_window_has_exact_ends(tmp_path: Path) -> None:
    image = read_bytes(dicom_bytes(RAMP, WindowCenter=2000, WindowWidth=1000, VOILUTFunction="LINEAR_EXACT"), tmp_path)
    assert np.abs(image - np.clip((RAMP - 1500.0) / 1000, 0, 1) * 255).max() <= 0.51


def test_a_sigmoid_window_follows_the_standard(tmp_path: Path) -> None:
    image = read_bytes(dicom_bytes(RAMP, WindowCenter=2000, WindowWidth=1000, VOILUTFunction="SIGMOID"), tmp_path)
    assert np.abs(image - 255 / (1 + np.exp(-4 * (RAMP - 2000.0) / 1000))).max() <= 0.51


def test_the_rescale_slope_is_applied_before_the_window(tmp_path: Path) -> None:
    contents = dicom_bytes(RAMP, RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=3000, WindowWidth=2000)
    assert np.abs(read_bytes(contents, tmp_path) - window(RAMP * 2.0 - 1000, 3000, 2000)).max() <= 0.51


def test_the_modality_lut_is_applied_before_the_voi_lut(tmp_path: Path) -> None:
    halves = (np.arange(4096) // 2).astype(np.uint16)
    squares = (np.arange(2048) ** 2 // 2**10).astype(np.uint16)
    contents = dicom_bytes(
        RAMP,
        ModalityLUTSequence=lut_sequence(halves),
        VOILUTSequence=lut_sequence(squares),
        WindowCenter=1,
        WindowWidth=2,
    )
    expected = squares[halves[RAMP]] * (255 / squares.max())
    assert np.abs(read_bytes(contents, tmp_path) - expected).max() <= 0.51


def test_a_modality_lut_that_states_too_many_bits_is_scaled_from_its_actual_range(tmp_path: Path) -> None:
    contents = dicom_bytes(RAMP, ModalityLUTSequence=lut_sequence(np.arange(4096)[::-1], bits=16))
    np.testing.assert_array_equal(read_bytes(contents, tmp_path), FULL[::-1, ::-1])


def test_signed_values_are_scaled_from_their_range(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_bytes(dicom_bytes(RAMP.astype(np.int16) - 2048), tmp_path), FULL)


def test_stretching_replaces_the_voi(tmp_path: Path) -> None:
    for colors, turn in (("MONOCHROME2", 1), ("MONOCHROME1", -1)):
        contents = dicom_bytes(RAMP, WindowCenter=1, WindowWidth=2, PhotometricInterpretation=colors)
        image = read_bytes(contents, tmp_path, stretch=(20.0, 50.0))[::turn, ::turn]
        assert np.abs(image - np.clip((RAMP / 4095 - 0.2) / 0.3, 0, 1) * 255).max() <= 0.51


def test_compressed_films_are_decoded(tmp_path: Path) -> None:
    codestream = encode_array(RAMP, bits_stored=12, photometric_interpretation=0)
    np.testing.assert_array_equal(
        read_bytes(compressed_dicom_bytes(RAMP, codestream, JPEG2000Lossless), tmp_path), FULL
    )


@pytest.mark.fault("A8")
def test_every_truncation_of_a_dicom_file_is_detected(tmp_path: Path) -> None:
    contents = dicom_bytes(RAMP[:4, :4] * 60)
    for num_bytes in range(len(contents)):
        with pytest.raises(ImageError):
            read_bytes(contents[:num_bytes], tmp_path)


@pytest.mark.fault("A8")
def test_a_truncated_codestream_is_detected(tmp_path: Path) -> None:
    codestream = encode_array(RAMP, bits_stored=12, photometric_interpretation=0)
    for share in (0.1, 0.5, 0.9):
        truncated = compressed_dicom_bytes(RAMP, codestream[: int(len(codestream) * share)], JPEG2000Lossless)
        with pytest.raises(ImageError, match="the image is damaged"):
            read_bytes(truncated, tmp_path)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, RLELossless])
def test_a_codestream_of_noise_is_refused(syntax: str, tmp_path: Path) -> None:
    with pytest.raises(
        ImageError, match=r"(?s)the image is damaged.*pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg`"
    ):
        read_bytes(compressed_dicom_bytes(RAMP, b"noise" * 20, syntax), tmp_path)


def test_flipped_bits_in_the_header_give_a_film_or_an_image_error(tmp_path: Path) -> None:
    contents = dicom_bytes(RAMP[:4, :4] * 60)
    for offset in range(128, len(contents) - 32):
        with contextlib.suppress(ImageError):
            assert read_bytes(flipped(contents, offset, offset % 8), tmp_path).ndim == 2


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ({"PixelAspectRatio": [2, 1]}, "the pixels are not square"),
        ({"ImagerPixelSpacing": [0.143, 0.15]}, "the pixels are not square"),
        ({"WindowCenter": 10, "WindowWidth": 0, "VOILUTFunction": "SIGMOID"}, "the VOI window is too narrow"),
        ({"BitsStored": 16, "HighBit": 15}, "uses too little of its range"),
    ],
)
def test_a_film_that_would_be_distorted_or_lose_its_contrast_is_refused(
    elements: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ImageError, match=message):
        read_bytes(dicom_bytes(RAMP, **elements), tmp_path)


def test_square_pixels_are_accepted(tmp_path: Path) -> None:
    contents = dicom_bytes(
        RAMP, PixelSpacing=[0.143, 0.143], ImagerPixelSpacing=[0.15, 0.1501], PixelAspectRatio=[1, 1]
    )
    np.testing.assert_array_equal(read_bytes(contents, tmp_path), FULL)


@pytest.mark.fault("A9")
def test_a_deflated_file_is_refused_before_it_is_inflated(tmp_path: Path) -> None:
    contents = bytearray(dicom_bytes(RAMP))
    offset = contents.index(b"1.2.840.10008.1.2.1")
    contents[offset : offset + 22] = DeflatedExplicitVRLittleEndian.encode()
    with pytest.raises(ImageError, match="deflated"):
        read_bytes(bytes(contents), tmp_path)


def test_the_error_for_a_missing_pydicom_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = dicom_bytes(RAMP)
    for name in [name for name in sys.modules if name.partition(".")[0] == "pydicom"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "wds_bone.images.dicom", raising=False)
    with pytest.raises(
        ConfigError,
        match=r"film.dcm: reading DICOM requires.*\n.*pip install pydicom pylibjpeg pylibjpeg-libjpeg ",
    ):
        read_bytes(contents, tmp_path)
