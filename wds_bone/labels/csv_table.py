"""Read the rows of a CSV file one by one (RFC 4180, UTF-8).

In: the lines of a file as bytes.
Out: the cells of each line, with its number.
Invariant: nothing is repaired; memory holds one line.
"""

import codecs
import csv
import io
import re
import shlex
from collections.abc import Iterable, Iterator

from wds_bone.errors import LabelError
from wds_bone.storage.location import Location

MAX_LINE_BYTES = 2**20
SAVE_AS_CSV = "save the table as CSV: UTF-8, separated by commas"
DELIMITERS = {",": ",", ";": ";", "|": "|", "tab": "\t"}
"""The separators of cells, by the name that the user gives."""

_UTF16_OR_32 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
_COMMON_FIRST_BYTES = range(0xB0, 0xD8)  # the first level of GB 2312
_HIGH_BYTES = re.compile(rb"[\x80-\xff]+")


def csv_rows(lines: Iterable[bytes], path: Location, *, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the cells of each line; empty lines have no cells.

    Args:
        lines: the lines of the file, with their ends.
        path: the file, for error messages.
        delimiter: the character between the cells.

    Raises:
        LabelError: if a line is not UTF-8, is too long, or is not well-formed CSV.
    """
    for number, line in enumerate(_text_lines(lines, path), start=1):
        where = f"{path}: line {number}"
        try:
            cells = next(csv.reader([line], delimiter=delimiter, strict=True, skipinitialspace=True))
        except csv.Error as error:
            is_open = "unexpected end" in str(error)
            raise _csv_error(
                where, f"{error}: a quoted cell continues past the end of the line" if is_open else error
            ) from error
        yield number, cells


def _text_lines(lines: Iterable[bytes], path: Location) -> Iterator[str]:
    offset, number = 0, 1
    for line in lines:
        text = _decode(line, path, number, offset)
        offset += len(line)
        # A file may end its lines with a carriage return only.
        for part in io.StringIO(text, newline="") if "\r" in text.rstrip("\r\n") else (text,):
            yield part
            number += 1


def _decode(line: bytes, path: Location, number: int, offset: int) -> str:
    if len(line) > MAX_LINE_BYTES and b"\0" not in line:
        raise _csv_error(f"{path}: line {number}", f"a line of more than {MAX_LINE_BYTES:,} bytes")
    text = line if offset else line.removeprefix(codecs.BOM_UTF8)
    try:
        if b"\0" not in line:
            return text.decode()
        bad = 0 if line.startswith(_UTF16_OR_32) else line.index(b"\0")
    except UnicodeDecodeError as error:
        bad = 0 if line.startswith(_UTF16_OR_32) else len(line) - len(text) + error.start
    raise _encoding_error(path, line, number, offset=offset + bad, bad=bad)


def _encoding_error(path: Location, line: bytes, number: int, *, offset: int, bad: int) -> LabelError:
    encoding, got = _guess_encoding(line, bad)
    target = shlex.quote(f"{path.stem}-utf8.csv")
    convert = (
        f"; or convert it with `iconv -f {encoding} -t UTF-8 {shlex.quote(str(path))} > {target}`" if encoding else ""
    )
    problem = f"{path}: line {number}: byte offset {offset} is not UTF-8"
    return LabelError(problem, expected="UTF-8", got=got, do=SAVE_AS_CSV + convert)


def _guess_encoding(line: bytes, bad: int) -> tuple[str | None, str]:
    """Return the encoding that `line` seems to have, as iconv names it, and a description of what was found."""
    if line.startswith(_UTF16_OR_32[2]) or line.startswith(codecs.BOM_UTF32_LE):
        return "UTF-32", "UTF-32"
    if line.startswith(_UTF16_OR_32):
        return "UTF-16", "UTF-16"
    if line[bad : bad + 1] == b"\0":
        halves = {"UTF-16LE": (line[1::2], line[0::2]), "UTF-16BE": (line[0::2], line[1::2])}
        for encoding, (high, low) in halves.items():
            if 2 * high.count(0) > len(high) > 1 and not low.count(0):
                return encoding, f"a NUL byte; it looks like {encoding}"
        return None, "a NUL byte"
    shown = f"byte {line[bad]:#04x}"
    if _is_chinese(line):
        return "GB18030", f"{shown}; it looks like GBK (Chinese)"
    return "WINDOWS-1252", f"{shown}, as in Latin-1 (Windows-1252)"


def _is_chinese(line: bytes) -> bool:
    """Return whether `line` looks like GBK: pairs of bytes outside ASCII, most of which begin as common characters do.

    In Latin-1, such bytes come one by one, or are small letters (0xDF to 0xFF) as in "Größe".
    """
    runs = _HIGH_BYTES.findall(line)
    try:
        line.decode("gb18030")
    except UnicodeDecodeError:
        return False
    first_bytes = [byte for run in runs for byte in run[::2]]
    num_common = sum(byte in _COMMON_FIRST_BYTES for byte in first_bytes)
    return sum(map(len, runs)) >= 2 * len(runs) and 2 * num_common > len(first_bytes)


def _csv_error(where: str, got: object) -> LabelError:
    return LabelError(
        f"{where}: the CSV is not well formed",
        expected='paired quotes, "" for a quote inside a quoted cell, no line breaks in cells, cells below 128 KiB',
        got=got,
        do="fix the quotes, the line break or the long cell on this line",
    )
