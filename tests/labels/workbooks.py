"""Write workbooks that spreadsheet programs would not write."""

import io
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import openpyxl

SHEET = "xl/worksheets/sheet1.xml"
HEADER = ("id", "boneage", "male")


def workbook_bytes(*sheets: Sequence[Sequence[Any]]) -> bytes:
    """Return the bytes of a workbook with these rows in each sheet."""
    workbook = openpyxl.Workbook()
    for number, rows in enumerate(sheets):
        sheet = workbook.active if number == 0 else workbook.create_sheet()
        for row in rows:
            sheet.append(list(row))
    file = io.BytesIO()
    workbook.save(file)
    return file.getvalue()


def edit_workbook(path: Path, contents: bytes, edit: Callable[[bytes], bytes], *, member: str = SHEET) -> Path:
    """Write a workbook to `path`, with one of its members edited."""
    with zipfile.ZipFile(io.BytesIO(contents)) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, edit(old.read(name)) if name == member else old.read(name))
    return path


def write_sheet(path: Path, xml: str) -> Path:
    """Write a workbook whose only sheet has this XML inside its root element."""
    namespace = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    return edit_workbook(
        path, workbook_bytes([]), lambda _: f'<worksheet xmlns="{namespace}">{xml}</worksheet>'.encode()
    )
