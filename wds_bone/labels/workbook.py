"""Read the rows of an .xlsx workbook one by one.

In: the contents of a workbook.
Out: the cells of each row of its only sheet that is not empty, with its number.
Invariant: every row and column that is in the file is read, whatever extent the sheet claims to have.
"""

import io
import zipfile
from collections.abc import Iterator
from typing import Any

from wds_bone.errors import ConfigError, LabelError
from wds_bone.labels.csv_table import SAVE_AS_CSV
from wds_bone.labels.formats import check_is_xlsx
from wds_bone.labels.workbook_check import check_workbook
from wds_bone.storage.location import Location


def workbook_rows(contents: bytes, path: Location) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the cells of each row, without the empty cells at its end.

    Args:
        contents: the bytes of the file.
        path: the file, for error messages.

    Raises:
        LabelError: if it is not a workbook, is damaged or too large, or if several sheets have contents.
        ConfigError: if openpyxl is not installed.
    """
    try:
        import openpyxl
    except ImportError as error:
        do = "run `pip install openpyxl`, or save the table as CSV"
        raise ConfigError(f"{path}: reading .xlsx requires the package openpyxl", do=do) from error
    try:
        with zipfile.ZipFile(io.BytesIO(contents)) as archive:
            check_is_xlsx(path, archive)
            check_workbook(path, archive)
        workbook = openpyxl.load_workbook(io.BytesIO(contents), read_only=True, data_only=True, keep_links=False)
        for number, cells in enumerate(_only_sheet(workbook, path), start=1):
            yield number, _texts(cells)
    except LabelError:
        raise
    except Exception as error:  # openpyxl raises arbitrary exceptions for damaged workbooks
        raise LabelError(
            f"{path}: the workbook cannot be read", expected="an .xlsx file", got=repr(error), do=SAVE_AS_CSV
        ) from error


def _only_sheet(workbook: Any, path: Location) -> Iterator[tuple[Any, ...]]:
    """Return the rows of the only sheet that is not empty."""
    filled = [sheet for sheet in workbook.worksheets if any(cell is not None for row in _rows(sheet) for cell in row)]
    if len(filled) > 1:
        raise LabelError(
            f"{path}: more than one sheet has contents",
            expected="one sheet with the labels",
            got=", ".join(repr(sheet.title) for sheet in filled),
            do="delete the other sheets, or save the one with the labels as CSV",
        )
    return _rows(filled[0]) if filled else iter(())


def _rows(sheet: Any) -> Iterator[tuple[Any, ...]]:
    sheet.reset_dimensions()  # openpyxl would skip what is outside the extent that the file claims
    rows: Iterator[tuple[Any, ...]] = sheet.iter_rows(values_only=True)
    return rows


def _texts(cells: tuple[Any, ...]) -> list[str]:
    texts = ["" if cell is None else str(cell) for cell in cells]
    while texts and not texts[-1]:
        texts.pop()
    return texts
