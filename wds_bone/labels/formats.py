"""Recognize the format of a label table by its contents, and refuse other formats by name.

In: the first bytes of a file, and its path.
Out: "csv" or "xlsx".
Invariant: a file is read as what it is, and refused if its suffix says something else.
"""

import shlex
import zipfile
from typing import Literal

from wds_bone.errors import LabelError
from wds_bone.labels.csv_table import SAVE_AS_CSV
from wds_bone.storage.location import Location

TableFormat = Literal["csv", "xlsx"]

ZIP_START = b"PK\x03\x04"
OLE_START = b"\xd0\xcf\x11\xe0"
_WORKBOOK_SUFFIXES = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
_TEXT_SUFFIXES = (".csv", ".tsv", ".txt")
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
_UNPACK = {b"\x1f\x8b": "gunzip -k", b"BZh": "bunzip2 -k", b"\xfd7zXZ": "unxz -k", b"\x28\xb5\x2f\xfd": "unzstd"}
_OTHER_STARTS = {
    b"PAR1": "a Parquet file",
    b"%PDF": "a PDF document",
    b"SQLite format 3": "an SQLite database",
    b"{\\rtf": "an RTF document",
    b"<!doctype": "an HTML page",
    b"<html": "an HTML page",
    b"<table": "an HTML page",
    b"<?xml": "an XML file",
    b"{": "a JSON file",
    b"[": "a JSON file",
}
# The members of an archive that say what it is, from the most to the least specific one.
_ARCHIVES = {
    "xl/workbook.bin": "a binary workbook (.xlsb)",
    "word/document.xml": "a Word document",
    "Index/Document.iwa": "a Numbers spreadsheet",
    "content.xml": "an OpenDocument spreadsheet (.ods)",
}


def detect_format(path: Location, start: bytes) -> TableFormat:
    """Return the format of a table that begins with `start`, its first line.

    Raises:
        LabelError: if it is neither CSV nor .xlsx, or if the suffix of `path` names the other one.
    """
    suffix = path.suffix.lower()
    if start.startswith(ZIP_START):
        if suffix in _TEXT_SUFFIXES:
            raise _format_error(path, f"an .xlsx workbook or another archive named {suffix}", _rename(path, ".xlsx"))
        return "xlsx"
    for signature, command in _UNPACK.items():
        if start.startswith(signature):
            raise _format_error(path, "a compressed file", f"unpack it with `{command} {shlex.quote(str(path))}`")
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for signature, name in _OTHER_STARTS.items():
        if text.startswith(signature.lower()):
            raise _format_error(path, name, SAVE_AS_CSV)
    if start and suffix in _WORKBOOK_SUFFIXES:
        raise _format_error(path, f"text in a file named {suffix}", _rename(path, ".csv"))
    return "csv"


def refuse_ole(path: Location, contents: bytes) -> None:
    """Raise the error for a file in the container of old Office formats, which also holds encrypted workbooks.

    Raises:
        LabelError: in every case.
    """
    if _ENCRYPTED in contents:
        do = "open it with its password and save it without one as .xlsx; or " + SAVE_AS_CSV
        raise _format_error(path, "a password-protected workbook", do)
    raise _format_error(path, "an old workbook (.xls)", SAVE_AS_CSV + "; or save it as .xlsx")


def check_is_xlsx(path: Location, archive: zipfile.ZipFile) -> None:
    """Refuse an archive that is not an .xlsx workbook.

    Raises:
        LabelError: if it is not one; the message says what it is.
    """
    names = set(archive.namelist())
    found = next((name for member, name in _ARCHIVES.items() if member in names), None)
    if found is None and any(name.startswith("xl/worksheets/") for name in names):
        return
    do = "unpack it" if found is None else SAVE_AS_CSV + "; or save it as .xlsx"
    raise _format_error(path, found or "a zip archive without a workbook", do)


def _rename(path: Location, suffix: str) -> str:
    return f"rename it to {path.stem}{suffix}"


def _format_error(path: Location, got: str, do: str) -> LabelError:
    return LabelError(f"{path}: unsupported table format", expected=".csv or .xlsx", got=got, do=do)
