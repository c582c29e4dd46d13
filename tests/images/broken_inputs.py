"""Broken tables and images, each with the error that it must give.

`write_broken_tables(folder)` and `write_broken_images(folder)` write one file per fault and return, by file name, a
regular expression for the whole message: the location and the problem, what was expected, what was found, what to do.
"""

import io
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.images.dicom_films import dicom_bytes, lut_sequence

FILM = np.add.outer(np.arange(48) * 2, np.arange(40) * 3).astype(np.uint8)
DEEP_FILM = FILM.astype(np.uint16) * 16


def write_broken_tables(folder: Path) -> dict[str, str]:
    """Write one label table per fault into `folder`; return the pattern of the message by file name."""
    return {name: _write(folder / name, contents, *message) for name, (contents, *message) in _TABLES.items()}


def write_broken_images(folder: Path) -> dict[str, str]:
    """Write one image per fault into `folder`; return the pattern of the message by file name."""
    return {name: _write(folder / name, contents(), *message) for name, (contents, *message) in _IMAGES.items()}


def picture_bytes(image: Image.Image, kind: str, **settings: object) -> bytes:
    """Return the bytes of a file of `kind` that contains `image`."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def film_bytes(kind: str, mode: str = "L", **settings: object) -> bytes:
    """Return the bytes of a file of `kind` that contains the film of the tests."""
    return picture_bytes(Image.fromarray(FILM).convert(mode), kind, **settings)


def flipped(contents: bytes, offset: int, bit: int = 0) -> bytes:
    """Return `contents` with one bit flipped."""
    changed = bytearray(contents)
    changed[offset] ^= 1 << bit
    return bytes(changed)


def png_chunk(kind: bytes, contents: bytes) -> bytes:
    """Return a PNG chunk with the right checksum."""
    return struct.pack(">I", len(contents)) + kind + contents + struct.pack(">I", zlib.crc32(kind + contents))


def _write(path: Path, contents: bytes, problem: str, expected: str, got: str, do: str) -> str:
    path.write_bytes(contents)
    return rf"{re.escape(path.name)}: {problem}\n  expected: .*{expected}.*\n  got:      .*{got}.*\n  do:       .*{do}"


def _png_of_size(width: int, height: int) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(bytes(1000))) + png_chunk(b"IEND", b"")


def _jpeg_of_size(width: int, height: int) -> bytes:
    contents = film_bytes("JPEG")
    frame = contents.index(b"\xff\xc0") + 5
    return contents[:frame] + struct.pack(">HH", height, width) + contents[frame + 4 :]


def _tiff_of_size(width: int, height: int) -> bytes:
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 0), (279, 4, 100)]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


def _cut(kind: str, share: float) -> Callable[[], bytes]:
    return lambda: (contents := film_bytes(kind))[: int(len(contents) * share)]


def _animation(kind: str) -> Callable[[], bytes]:
    frames = [Image.fromarray(FILM // n) for n in (1, 2)]
    return lambda: picture_bytes(frames[0], kind, save_all=True, append_images=frames[1:])


def _without_end() -> bytes:
    return film_bytes("PNG")[:-12]


def _scan_of_noise() -> bytes:
    contents = film_bytes("JPEG")
    return contents[:-40] + b"\xff\x01" * 19 + contents[-2:]


def _twelve_bits() -> bytes:
    return picture_bytes(Image.fromarray(DEEP_FILM), "PNG")


def _dicom(**elements: object) -> Callable[[], bytes]:
    return lambda: dicom_bytes(DEEP_FILM, **elements)


_FETCH, _ONE_FRAME = "fetch or export the file again", "save the frame that shows the film"
_CONVERT, _RENAME = "convert the film to 8- or 16-bit gray", "its suffix matches its contents"
_SIZE = "1 to 67,108,864 pixels"
_DAMAGED = ("the image is damaged", "an intact file")
_SMALLER = "leave the image out, or scale it down"
_SEVERAL = ("the file does not hold a single image", "one image")
_COLORS = ("the color format is not supported", r"gray \(4 to 16 bits\), RGB or a palette")

_IMAGES: dict[str, tuple[Callable[[], bytes], str, str, str, str]] = {
    "zero-bytes.png": (bytes, "the file is empty", "an image", "0 bytes", _FETCH),
    "cut.png": (_cut("PNG", 0.7), *_DAMAGED, "truncated in the chunk b'IDAT' at byte 33", _FETCH),
    "no-end.png": (_without_end, *_DAMAGED, "truncated in the chunk", _FETCH),
    "bit-in-picture.png": (
        lambda: flipped(film_bytes("PNG"), 60),
        *_DAMAGED,
        "wrong checksum in the chunk b'IDAT'",
        _FETCH,
    ),
    "bit-in-header.png": (lambda: flipped(film_bytes("PNG"), 19), *_DAMAGED, "bytes: ", _FETCH),
    "bit-in-end.png": (
        lambda: flipped(film_bytes("PNG"), -1),
        *_DAMAGED,
        "wrong checksum in the chunk b'IEND'",
        _FETCH,
    ),
    "signature-only.png": (lambda: film_bytes("PNG")[:8], *_DAMAGED, "8 bytes", _FETCH),
    "jpeg-inside.png": (lambda: film_bytes("JPEG"), "not a PNG image", "PNG", "JPEG", _RENAME),
    "page.png": (lambda: b"<!DOCTYPE html><html>", "not a PNG image", "PNG", "<!DOCTYPE", _FETCH),
    "gif-inside.png": (lambda: film_bytes("GIF"), "not a PNG image", "PNG", "GIF89a|GIF87a", _FETCH),
    "animation.png": (_animation("PNG"), *_SEVERAL, "an animation", _ONE_FRAME),
    "bomb.png": (lambda: _png_of_size(12000, 12000), "the image is too large", _SIZE, "12000 x 12000", _SMALLER),
    "no-width.png": (lambda: _png_of_size(0, 7), *_DAMAGED, "bytes: ", _FETCH),
    "twelve-bits.png": (
        _twelve_bits,
        "the film uses too little of its range.*",
        "values that span at least a quarter of 0 to 65535",
        "0 to 3376, as of 12 bits",
        "multiply the values of all films by .* 16 for 12 bits .* --stretch 1 99",
    ),
    "cut.jpg": (_cut("JPEG", 0.8), *_DAMAGED, "Premature end", _FETCH),
    "only-header.jpg": (_cut("JPEG", 0.2), *_DAMAGED, "bytes: ", _FETCH),
    "noise.jpg": (_scan_of_noise, *_DAMAGED, "bytes: ", _FETCH),
    "png-inside.jpg": (lambda: film_bytes("PNG"), "not a JPEG image", "JPEG", "PNG", _RENAME),
    "bomb.jpg": (lambda: _jpeg_of_size(65000, 65000), "the image is too large", _SIZE, "65000 x 65000", _SMALLER),
    "cmyk.jpg": (lambda: film_bytes("JPEG", "CMYK"), *_COLORS, "mode CMYK", _CONVERT),
    "stereo.jpg": (_animation("MPO"), *_SEVERAL, "MPO", _ONE_FRAME),
    "cut.tif": (_cut("TIFF", 0.6), *_DAMAGED, "bytes: ", _FETCH),
    "garbage.tif": (lambda: b"II*\0" + bytes(range(200)), *_DAMAGED, "204 bytes", _FETCH),
    "pages.tif": (_animation("TIFF"), *_SEVERAL, "2 pages", _ONE_FRAME),
    "float.tif": (lambda: film_bytes("TIFF", "F"), *_COLORS, "mode F", _CONVERT),
    "whole.tif": (lambda: film_bytes("TIFF", "I"), *_COLORS, "mode I", _CONVERT),
    "cmyk.tif": (lambda: film_bytes("TIFF", "CMYK"), *_COLORS, "mode CMYK", _CONVERT),
    "bomb.tif": (lambda: _tiff_of_size(60000, 50000), "the image is too large", _SIZE, "60000 x 50000", _SMALLER),
    "cut.dcm": (lambda: dicom_bytes(DEEP_FILM)[:-100], *_DAMAGED, "bytes: ", _FETCH),
    "png-inside.dcm": (lambda: film_bytes("PNG"), "not a DICOM image", "DICOM", "PNG", _RENAME),
    "bomb.dcm": (_dicom(Rows=65000, Columns=65000), "the image is too large", _SIZE, "65000 x 65000", _SMALLER),
    "no-rows.dcm": (_dicom(Rows=0), "the image is empty", _SIZE, "40 x 0 = 0 pixels", "leave the image out"),
    "frames.dcm": (_dicom(NumberOfFrames=3), *_SEVERAL, "3 frames", _ONE_FRAME),
    "color.dcm": (
        _dicom(PhotometricInterpretation="RGB", SamplesPerPixel=3),
        "the DICOM film is in color.*",
        "MONOCHROME1 or MONOCHROME2, one sample per pixel",
        "RGB, 3 samples per pixel",
        "save it as an 8-bit PNG, which may be gray or RGB",
    ),
    "not-square.dcm": (
        _dicom(PixelSpacing=[0.1, 0.2]),
        "the pixels are not square",
        "two equal numbers in PixelSpacing",
        "0.1 and 0.2",
        "resample the film to square pixels",
    ),
    "slope-0.dcm": (
        _dicom(RescaleSlope="0", RescaleIntercept="0"),
        "the rescale slope gives all pixels the same value",
        "a slope other than 0",
        "0",
        "leave the film out",
    ),
    "constant-table.dcm": (
        _dicom(VOILUTSequence=lut_sequence(np.full(4096, 7))),
        "black and white are the same value.*",
        "two different values",
        "7 and 7",
        "export the film again with another rescale slope",
    ),
    "window-off.dcm": (
        _dicom(WindowCenter=30000, WindowWidth=100),
        "the film would be almost uniformly gray",
        "at least 2% of the pixels between black and white",
        "0.0% of the pixels between black and white",
        "export the film again with a window",
    ),
    "30-bits.dcm": (
        _dicom(BitsAllocated=32, BitsStored=30, HighBit=29),
        "the bits of the pixels are not supported",
        "BitsAllocated 8 or 16",
        "BitsAllocated 32, BitsStored 30, HighBit 29",
        "leave the film out",
    ),
    "narrow.dcm": (
        _dicom(WindowCenter=100, WindowWidth=1),
        "the VOI window is too narrow",
        "a width above 1",
        "1",
        "leave the film out",
    ),
}

_CORRECT = "correct the (age|gender) or leave the sample out"
_SAVE_AS_CSV = "save the table as CSV: UTF-8, separated by commas"
_HEAD = b"id,boneage,male\n"

_TABLES: dict[str, tuple[bytes, str, str, str, str]] = {
    "zero-bytes.csv": (b"", "no labels", "a header and at least one row", "an empty file", "use a table with labels"),
    "only-header.csv": (_HEAD, "no labels", "a header and at least one row", "1 row", "use a table with labels"),
    "no-header.csv": (
        b"1377,180,False\n1378,12,True\n",
        "line 1: the table has no header",
        "one column named",
        "'1377', '180', 'False'",
        "add a first line with the names",
    ),
    "utf16.csv": (
        (_HEAD + b"1,2,1\n").decode().encode("utf-16"),
        "line 1: byte offset 0 is not UTF-8",
        "UTF-8",
        "UTF-16",
        _SAVE_AS_CSV,
    ),
    "latin1.csv": (
        _HEAD + "7,12,féminin\n".encode("latin-1"),
        "line 2: byte offset 22 is not UTF-8",
        "UTF-8",
        "byte 0xe9, as in Latin-1",
        _SAVE_AS_CSV,
    ),
    "nul.csv": (_HEAD + b"7,1\0,True\n", "line 2: byte offset 19 is not UTF-8", "UTF-8", "a NUL byte", _SAVE_AS_CSV),
    "semicolons.csv": (
        b"id;boneage;male\n7;12;True\n",
        "line 1: the cells are not separated by commas",
        "',' between",
        "';'",
        _SAVE_AS_CSV,
    ),
    "ragged.csv": (
        _HEAD + b"7,12,True\n8,13\n",
        "line 3: the row and the header have different numbers of cells",
        "3 cells: id, boneage, male",
        "2: 8, 13",
        "add or remove cells",
    ),
    "open-quote.csv": (
        _HEAD + b'7,12,"True\n8,13,False\n',
        "line 2: the CSV is not well formed",
        "paired quotes",
        "unexpected end of data",
        "fix the quotes",
    ),
    "quote-over-lines.csv": (
        b'id,boneage,male,note\n7,12,1,"x\n8,12,1,"\n9,12,1,y\n',
        "line 2: the CSV is not well formed",
        "no line breaks in cells",
        "continues past the end of the line",
        "fix the quotes",
    ),
    "huge-cell.csv": (
        _HEAD + b"7,12," + b"x" * 200_000 + b"\n",
        "line 2: the CSV is not well formed",
        "cells below 128 KiB",
        "field larger than",
        "the long cell on this line",
    ),
    "no-gender.csv": (
        b"id,boneage\n7,12\n",
        "line 1: no column holds the gender",
        "gender or sex or male or female",
        "'id', 'boneage'",
        "--gender-column",
    ),
    "no-age.csv": (b"id,male\n7,1\n", "line 1: no column holds the age", "bone age", "'id', 'male'", "--age-column"),
    "no-id.csv": (
        b"boneage,male\n7,1\n",
        "line 1: no column holds the id",
        "id or image id",
        "'boneage'",
        "--id-column",
    ),
    "two-genders.csv": (
        b"id,boneage,male,sex\n7,12,1,M\n",
        "line 1: 2 columns could hold the gender",
        "one column named",
        "'male', 'sex'",
        "--gender-column",
    ),
    "two-ages.csv": (
        b"id,age,boneage,male\n7,11,12,1\n",
        "line 1: 2 columns could hold the age",
        "one column named",
        "'age', 'boneage'",
        "--age-column",
    ),
    "same-name-twice.csv": (
        b"id,boneage,boneage,male\n7,1,2,1\n",
        "line 1: 2 columns could hold the age",
        "one column",
        "'boneage', 'boneage'",
        "--age-column",
    ),
    "unnamed-flag.csv": (
        b"id,boneage,gender\n7,12,1\n",
        "line 2: the name of the column 'gender' does not say which gender 1 or true means",
        "M, F, male or female",
        "'1'",
        "--gender-is male or --gender-is female",
    ),
    "no-number.csv": (
        _HEAD + b"7,a year,1\n",
        "line 2: id '7': the age is not a number",
        "0 to 240 months",
        "'a year'",
        _CORRECT,
    ),
    "nan.csv": (_HEAD + b"7,nan,1\n", "line 2: id '7': the age is not a number", "0 to 240 months", "'nan'", _CORRECT),
    "infinite.csv": (
        _HEAD + b"7,inf,1\n",
        "line 2: id '7': the age is not a number",
        "0 to 240 months",
        "'inf'",
        _CORRECT,
    ),
    "negative.csv": (
        _HEAD + b"7,-1,1\n",
        "line 2: id '7': the age is out of range",
        "0 to 240 months",
        "'-1'",
        _CORRECT,
    ),
    "too-old.csv": (
        _HEAD + b"7,240.5,1\n",
        "line 2: id '7': the age is out of range",
        "0 to 240 months",
        "'240.5'",
        _CORRECT,
    ),
    "full-width.csv": (
        _HEAD + "7,１２,1\n".encode(),
        "line 2: id '7': the age is not a number",
        "0 to 240 months",
        "'１２'",
        _CORRECT,
    ),
    "years.csv": (
        _HEAD + b"".join(b"%d,%d,1\n" % (n, 1 + n) for n in range(18)),
        "line 1: the column 'boneage': the ages look like years",
        "ages in months",
        "ages 1 to 18; 18 of 18 are 20 or less",
        "--age-unit",
    ),
    "no-gender-in-row.csv": (
        _HEAD + b"7,12,\n",
        "line 2: id '7': the gender is missing",
        "1, 0, true or false",
        "''",
        _CORRECT,
    ),
    "odd-gender.csv": (
        _HEAD + b"7,12,2\n",
        r"line 2: the column 'male' has gender codes that are not known \('2'\), so none of them is trusted",
        "1, 0, true or false",
        "'2' in 1 row",
        "say what all of them mean: --gender-words 1=M 2=F",
    ),
    "false-or-female.csv": (
        b"id,boneage,female\n7,12,F\n",
        r"line 2: the column 'female' has gender words that are not known \('F'\), so none of them is trusted",
        r"\(female\), male or female",
        "'F' in 1 row",
        "say what all of them mean",
    ),
    "same-id-twice.csv": (
        _HEAD + b"7.png,12,1\n8,12,1\n7,13,1\n",
        "line 4: the id '7' occurs twice in the table",
        "each id once",
        "'7' here and at .*line 2",
        "remove one of the two rows",
    ),
    "path-as-id.csv": (
        _HEAD + b"../7,12,1\n",
        "line 2: the id is not a valid key",
        "1 to 64 of the characters",
        r"'\.\./7'",
        "rename the image",
    ),
    "long-id.csv": (
        _HEAD + b"x" * 65 + b",12,1\n",
        "line 2: the id is not a valid key",
        "1 to 64",
        "'xxx",
        "--id-column",
    ),
    "gbk.csv": (
        "id,骨龄,性别\n7,12,男\n".encode("gbk"),
        "line 1: byte offset 3 is not UTF-8",
        "UTF-8",
        r"byte 0xb9; it looks like GBK \(Chinese\)",
        _SAVE_AS_CSV + "; or convert it with `iconv -f GB18030 -t UTF-8 .*gbk.csv > gbk-utf8.csv`",
    ),
    "two-umlauts.csv": (
        "id,boneage,male,Größe\n7,12,1,150\n".encode("latin-1"),
        "line 1: byte offset 18 is not UTF-8",
        "UTF-8",
        "byte 0xf6, as in Latin-1",
        "convert it with `iconv -f WINDOWS-1252",
    ),
    "utf16-without-mark.csv": (
        (_HEAD + b"1,2,1\n").decode().encode("utf-16-le"),
        "line 1: byte offset 1 is not UTF-8",
        "UTF-8",
        "a NUL byte; it looks like UTF-16LE",
        _SAVE_AS_CSV + "; or convert it with `iconv -f UTF-16LE",
    ),
    "utf32.csv": (
        (_HEAD + b"1,2,1\n").decode().encode("utf-32"),
        "line 1: byte offset 0 is not UTF-8",
        "UTF-8",
        "UTF-32",
        _SAVE_AS_CSV + "; or convert it with `iconv -f UTF-32",
    ),
    "decimal-commas.csv": (
        b"id;boneage;male\n7;94,5;WAHR\n",
        "line 1: the cells are not separated by commas",
        "',' between",
        "';', and decimal commas such as '94,5'",
        "read it with --delimiter ';', or " + _SAVE_AS_CSV + ", with decimal points",
    ),
    "tabs.tsv": (
        b"id\tboneage\tmale\n7\t12\tTrue\n",
        "line 1: the cells are not separated by commas",
        "',' between",
        r"'\\t'",
        "read it with --delimiter tab",
    ),
    "sep-line.csv": (
        b"sep=;\n" + _HEAD.replace(b",", b";") + b"7;12;1\n",
        "line 1: this is a sep= line, which only spreadsheet programs understand",
        "the names of the columns",
        "'sep=;'",
        "delete this line, and pass --delimiter ';'",
    ),
    "sep-comma.csv": (
        b"\xef\xbb\xbfsep=,\r\n" + _HEAD + b"7,12,1\n",
        "line 1: this is a sep= line, which only spreadsheet programs understand",
        "the names of the columns",
        "'sep=,'",
        "delete this line$",
    ),
    "title-above-semicolons.csv": (
        b"Bone ages 2024\n\nid;boneage;male\n7;12;1\n",
        "line 1: the cells are not separated by commas",
        "',' between",
        "';'",
        "read it with --delimiter ';', or " + _SAVE_AS_CSV,
    ),
    "title.csv": (
        b"Bone ages 2024,,\n,,\n" + _HEAD + b"7,12,1\n",
        "line 1: this is not the header, which is line 3",
        "the names of the columns first",
        "Bone ages 2024",
        "delete everything above line 3",
    ),
    "codes.csv": (
        b"id,boneage,sex\n7,12,1\n8,12,2\n",
        r"line 2: the column 'sex' has gender codes that are not known \('1', '2'\), so none of them is trusted",
        "M, F, male or female",
        "'1' in 1 row, '2' in 1 row",
        "say what all of them mean: --gender-words 1=M 2=F, or 1=F 2=M",
    ),
    "long-line.csv": (
        _HEAD + b"7,12,1," + b"x," * 600_000 + b"\n",
        "line 2: the CSV is not well formed",
        "cells below 128 KiB",
        "a line of more than 1,048,576 bytes",
        "the long cell on this line",
    ),
    "text.xlsx": (
        _HEAD + b"7,12,1\n",
        "unsupported table format",
        ".csv or",
        "text in a file named .xlsx",
        "rename it to text.csv",
    ),
    "workbook.csv": (
        b"PK\x03\x04 and more",
        "unsupported table format",
        ".csv or .xlsx",
        "an .xlsx workbook or another archive named .csv",
        "rename it to workbook.xlsx",
    ),
    "encrypted.xlsx": (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600) + "EncryptedPackage".encode("utf-16-le") + bytes(100),
        "unsupported table format",
        ".csv or .xlsx",
        "a password-protected workbook",
        "save it without one as .xlsx",
    ),
    "old.xlsx": (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600) + "Workbook".encode("utf-16-le"),
        "unsupported table format",
        ".csv or .xlsx",
        r"an old workbook \(.xls\)",
        _SAVE_AS_CSV + "; or save it as .xlsx",
    ),
    "page.csv": (
        b"<!DOCTYPE html><html></html>\n",
        "unsupported table format",
        ".csv or",
        "an HTML page",
        _SAVE_AS_CSV,
    ),
    "object.csv": (b'[{"id": 7}]\n', "unsupported table format", ".csv or .xlsx", "a JSON file", _SAVE_AS_CSV),
    "packed.csv": (
        b"\x1f\x8b\x08\0",
        "unsupported table format",
        ".csv or",
        "a compressed file",
        "unpack it with `gunzip",
    ),
    "workbook.xls": (b"\xd0\xcf\x11\xe0", "unsupported table format", ".csv or .xlsx", ".xls", _SAVE_AS_CSV),
    "truncated.xlsx": (
        b"PK\x03\x04 and no more",
        "the workbook cannot be read",
        "an .xlsx file",
        "BadZipFile",
        _SAVE_AS_CSV,
    ),
}
