"""Test which bits of a DICOM pixel are its value, and that degenerate tables and elements are refused by name."""

import contextlib
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from tests.images.dicom_films import compressed_dicom_bytes, dicom_bytes, lut_sequence
from wds_bone.errors import ImageError
from wds_bone.images.read import read_image

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)
FULL = np.rint(RAMP * (255 / 4095)).astype(np.uint8)
NOISE = np.random.default_rng(0).integers(0, 16, RAMP.shape).astype(np.uint16)


def read_bytes(contents: bytes, folder: Path, **settings: Any) -> NDArray[np.uint8]:
    (folder / "film.dcm").write_bytes(contents)
    return read_image(folder / "film.dcm", **settings)


def with_overlays(*positions: int, **elements: Any) -> dict[str, Any]:
    """Return elements that state overlays in these bits of the pixels, besides `elements`."""
    overlays = Dataset()
    for number, position in enumerate(positions):
        overlays.add_new((0x6000 + 2 * number, 0x0100), "US", 16)
        overlays.add_new((0x6000 + 2 * number, 0x0102), "US", position)
    return {"others": overlays, **elements}


def encoded(kind: str, pixels: NDArray[np.uint16]) -> tuple[bytes, str]:
    """Return a codestream of 16 bits and its transfer syntax."""
    if kind == "JPEG-LS":
        return imagecodecs.jpegls_encode(pixels), JPEGLSLossless
    return imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="j2k", reversible=True), JPEG2000Lossless


@pytest.mark.parametrize(("bits", "high"), [(12, 15), (12, 13), (10, 15), (8, 11)])
def test_values_in_upper_bits_are_shifted_down(bits: int, high: int, tmp_path: Path) -> None:
    values = RAMP >> (12 - bits)
    contents = dicom_bytes(values << (high - bits + 1), BitsStored=bits, HighBit=high)
    expected = np.rint(values * (255 / (2**bits - 1)))
    assert np.abs(read_bytes(contents, tmp_path) - expected).max() <= 0.51


def test_signed_values_in_upper_bits_keep_their_sign(tmp_path: Path) -> None:
    contents = dicom_bytes((RAMP.astype(np.int16) - 2048) << 4, BitsStored=12, HighBit=15)
    np.testing.assert_array_equal(read_bytes(contents, tmp_path), FULL)


@pytest.mark.parametrize("kind", ["native", "JPEG-LS", "JPEG 2000"])
@pytest.mark.parametrize(("high", "spare"), [(11, (12, 13, 14, 15)), (15, (0, 1, 2, 3)), (13, (0, 1, 14, 15))])
def test_overlays_in_spare_bits_are_not_part_of_the_picture(
    kind: str, high: int, spare: tuple[int, ...], tmp_path: Path
) -> None:
    pixels = RAMP << (high - 11)
    for number, position in enumerate(spare):
        pixels |= (NOISE >> number & 1) << position
    elements = with_overlays(*spare, HighBit=high)
    contents = (
        dicom_bytes(pixels, **elements)
        if kind == "native"
        else compressed_dicom_bytes(pixels, *encoded(kind, pixels), **elements)
    )
    np.testing.assert_array_equal(read_bytes(contents, tmp_path), FULL)


@pytest.mark.fault("A8")
def test_spare_bits_that_nothing_explains_are_refused(tmp_path: Path) -> None:
    for pixels, elements in ((RAMP | 0x8000, {}), (RAMP * 4, {"BitsStored": 10, "HighBit": 9})):
        with pytest.raises(ImageError, match="the pixels use bits outside the stored bits"):
            read_bytes(dicom_bytes(pixels, **elements), tmp_path)


@pytest.mark.parametrize(
    ("elements", "padded"),
    [
        ({"PixelPaddingValue": 4095}, [4095]),
        ({"PixelPaddingValue": 4000, "PixelPaddingRangeLimit": 4095}, range(4000, 4096)),
        ({"PixelPaddingValue": 4095, "PixelPaddingRangeLimit": 4000}, range(4000, 4096)),
        ({"PixelPaddingValue": 0xF000}, []),
        ({"PixelPaddingValue": None}, []),
    ],
)
@pytest.mark.parametrize("colors", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("window", [{}, {"WindowCenter": 3000, "WindowWidth": 2001}])
def test_padding_is_black(
    elements: dict[str, Any], padded: Any, colors: str, window: dict[str, int], tmp_path: Path
) -> None:
    pixels = RAMP.copy()
    if elements["PixelPaddingValue"] == 0xF000:
        pixels[:8] = 0xF000
    image = read_bytes(dicom_bytes(pixels, PhotometricInterpretation=colors, **window, **elements), tmp_path)
    gray = np.clip((pixels - 1999.5) / 2000, 0, 1) * 255 if window else pixels * (255 / 4095)
    gray = 255 - gray if colors == "MONOCHROME1" else gray
    expected = np.where(np.isin(pixels, [*padded, 0xF000]), 0, gray)
    assert np.abs(image - expected).max() <= 0.51


@pytest.mark.parametrize(("vr", "value"), [("SS", -2000), ("US", 63536)])
def test_signed_padding_is_black_and_does_not_count_for_a_stretch(vr: str, value: int, tmp_path: Path) -> None:
    pixels = RAMP.astype(np.int16) - 2048
    pixels[32:] = -2000
    padding = Dataset()
    padding.add_new("PixelPaddingValue", vr, value)
    image = read_bytes(dicom_bytes(pixels, others=padding), tmp_path, stretch=(0.0, 100.0))
    film = pixels != -2000
    low, high = pixels[film].min(), pixels[film].max()
    assert np.abs(image - np.where(film, (pixels.astype(float) - low) * 255 / (high - low), 0)).max() <= 0.51


def test_the_shape_inverse_means_one_inversion(tmp_path: Path) -> None:
    for colors, shape in (("MONOCHROME1", "INVERSE"), ("MONOCHROME1", None), ("MONOCHROME1", "IDENTITY")):
        contents = dicom_bytes(RAMP, PhotometricInterpretation=colors, PresentationLUTShape=shape)
        np.testing.assert_array_equal(read_bytes(contents, tmp_path), FULL[::-1, ::-1])
    with pytest.raises(ImageError, match="contradicts itself about which values are white"):
        read_bytes(dicom_bytes(RAMP, PresentationLUTShape="INVERSE"), tmp_path)


@pytest.mark.parametrize("elements", [{"RescaleSlope": "", "RescaleIntercept": ""}, {"RescaleSlope": "1"}])
def test_an_empty_or_missing_rescale_element_changes_nothing(elements: dict[str, str], tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_bytes(dicom_bytes(RAMP, **elements), tmp_path), FULL)


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("name", ["VOILUTSequence", "ModalityLUTSequence"])
def test_tables_of_any_number_of_bits_are_applied(bits: int, name: str, tmp_path: Path) -> None:
    entries = (np.arange(4096) ** 2 >> (24 - bits)).astype(np.uint16)
    image = read_bytes(dicom_bytes(RAMP, **{name: lut_sequence(entries, bits=bits)}), tmp_path)
    assert np.abs(image - entries[RAMP] * (255 / entries.max())).max() <= 0.51


def test_a_table_of_packed_bytes_is_applied(tmp_path: Path) -> None:
    entries = (255 - np.arange(4096) // 16).astype(np.uint8)
    table = lut_sequence(entries, bits=8)
    del table[0].LUTData
    table[0].add_new("LUTData", "OW", entries.tobytes())
    np.testing.assert_array_equal(read_bytes(dicom_bytes(RAMP, VOILUTSequence=table), tmp_path), entries[RAMP])


def without(name: str) -> list[Dataset]:
    table = lut_sequence(np.arange(4096))
    del table[0][name]
    return table


SAME, GRAY = "black and white are the same value", "the film would be almost uniformly gray"
DEGENERATE: list[tuple[dict[str, Any], str]] = [
    ({"RescaleSlope": "0", "RescaleIntercept": "5"}, "the rescale slope gives all pixels the same value"),
    ({"RescaleSlope": "1e308", "RescaleIntercept": "0"}, SAME),
    ({"RescaleSlope": ["1", "2"]}, "the element RescaleSlope is wrong"),
    ({"VOILUTSequence": lut_sequence(np.full(4096, 7))}, SAME),
    ({"ModalityLUTSequence": lut_sequence(np.full(4096, 7))}, SAME),
    ({"VOILUTSequence": lut_sequence(np.arange(4096), first=4095)}, GRAY + "|" + SAME),
    ({"VOILUTSequence": without("LUTData")}, "a lookup table is incomplete"),
    ({"VOILUTSequence": without("LUTDescriptor")}, "a lookup table is incomplete"),
    ({"ModalityLUTSequence": [Dataset()]}, "a lookup table is incomplete"),
    ({"WindowCenter": 30000, "WindowWidth": 100}, GRAY),
    ({"WindowCenter": 100, "WindowWidth": 9, "VOILUTFunction": "CUBIC"}, "the VOI function is not known"),
    ({"BitsStored": 30, "HighBit": 29}, "the bits of the pixels are not supported"),
    ({"BitsAllocated": 32}, "the bits of the pixels are not supported"),
    ({"HighBit": 3}, "the bits of the pixels are not supported"),
    ({"NominalScannedPixelSpacing": [0.1, 0.2]}, "the pixels are not square"),
    ({"Rows": [64, 64]}, "the element Rows is wrong"),
]


@pytest.mark.parametrize(("elements", "problem"), DEGENERATE)
@pytest.mark.fault("A8")
def test_a_degenerate_element_is_an_error_that_names_the_film(
    elements: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    with pytest.raises(ImageError, match=rf"film\.dcm: ({problem})"):
        read_bytes(dicom_bytes(RAMP, **elements), tmp_path)


@pytest.mark.fault("A9")
def test_too_many_bits_are_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    pixels = np.zeros((1000, 2000), np.uint32)
    contents = dicom_bytes(pixels, BitsAllocated=32, BitsStored=30, HighBit=29)
    tracemalloc.start()
    with pytest.raises(ImageError, match="the bits of the pixels are not supported"):
        read_bytes(contents, tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * len(contents)


@pytest.mark.parametrize("name", ["FloatPixelData", "DoubleFloatPixelData"])
def test_floating_point_pixels_are_named(name: str, tmp_path: Path) -> None:
    contents = dicom_bytes(RAMP, **{name: RAMP.astype("f4" if name[0] == "F" else "f8").tobytes()})
    with pytest.raises(ImageError, match="the pixels are floating-point numbers"):
        read_bytes(contents, tmp_path)


def test_an_unknown_compression_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="the compression is not supported"):
        read_bytes(compressed_dicom_bytes(RAMP, b"mpeg", "1.2.840.10008.1.2.4.100"), tmp_path)


@pytest.mark.parametrize("stated", [(1, 4096), (4095, 1), (65535, 0)])
def test_a_table_of_another_length_than_it_states_is_refused(stated: tuple[int, int], tmp_path: Path) -> None:
    table = lut_sequence(np.arange(4096))
    table[0].LUTDescriptor = [stated[0], 0, 16]
    with pytest.raises(ImageError, match="a lookup table has the wrong length"):
        read_bytes(dicom_bytes(RAMP, VOILUTSequence=table), tmp_path)


@pytest.mark.parametrize("kind", ["JPEG-LS", "JPEG 2000"])
@pytest.mark.fault("A9")
def test_a_codestream_of_another_size_is_refused_before_it_is_decoded(kind: str, tmp_path: Path) -> None:
    codestream, syntax = encoded(kind, np.zeros((3000, 4000), np.uint16))
    assert len(codestream) < 10_000
    with pytest.raises(ImageError, match=r"differs from its header\n.*64 x 64 pixels.*\n.*4000 x 3000 pixels"):
        read_bytes(compressed_dicom_bytes(RAMP, codestream, syntax), tmp_path)


@pytest.mark.parametrize("stated", [{"Rows": 63}, {"Rows": 1}, {"Columns": 63}])
def test_pixels_beyond_the_size_in_the_header_are_refused(stated: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"film\.dcm: the film has more pixels than its header states"):
        read_bytes(dicom_bytes(RAMP, **stated), tmp_path)
    contents = dicom_bytes(RAMP)
    padded = contents.replace(struct.pack("<I", RAMP.nbytes), struct.pack("<I", RAMP.nbytes + 64)) + bytes(64)
    np.testing.assert_array_equal(read_bytes(padded, tmp_path), FULL)


def test_the_number_of_rle_segments_is_checked(tmp_path: Path) -> None:
    segments = np.array([1, 64, *[0] * 14], "<u4").tobytes() + b"\x81\0" * 64
    with pytest.raises(ImageError, match=r"film\.dcm"):
        read_bytes(compressed_dicom_bytes(RAMP, segments, RLELossless), tmp_path)


NUMBERS = st.one_of(
    st.sampled_from(["", "0", "nan", "inf", "-1", "1e308", "1e-300", "0x10", "1\\2", "a"]),
    st.floats(allow_nan=True).map(lambda number: f"{number:.6g}"),
)


@given(
    numbers=st.dictionaries(
        st.sampled_from(["RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth"]), NUMBERS, max_size=4
    ),
    layout=st.tuples(st.integers(0, 17), st.integers(0, 17), st.integers(0, 2)),
    function=st.sampled_from(["", "LINEAR", "LINEAR_EXACT", "SIGMOID", "X"]),
    padding=st.one_of(st.none(), st.integers(0, 32767)),
)
def test_any_numbers_give_an_image_or_an_image_error(
    numbers: dict[str, str],
    layout: tuple[int, int, int],
    function: str,
    padding: int | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    bits, high, sign = layout
    elements = {"BitsStored": bits, "HighBit": high, "PixelRepresentation": sign, "PixelPaddingValue": padding}
    film = raw_numbers(numbers, VOILUTFunction=function, **elements)
    with contextlib.suppress(ImageError):
        assert read_bytes(film, tmp_path_factory.mktemp("film")).shape == (8, 8)


def raw_numbers(numbers: dict[str, str], **elements: Any) -> bytes:
    """Return a film with decimal strings that pydicom would refuse to write."""
    contents = dicom_bytes(RAMP[:8, ::8], **dict.fromkeys(numbers, "7777777777777777"), **elements)
    for text in numbers.values():
        contents = contents.replace(b"7777777777777777", text.encode().ljust(16), 1)
    return contents
