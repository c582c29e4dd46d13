"""The largest label table that is read.

In: what was counted.
Out: the error for a table that is larger.
Invariant: these limits bound the memory and the time that any file, or an endless pipe, can take.
"""

from wds_bone.errors import LabelError
from wds_bone.storage.location import Location

MAX_ROWS = 2**20  # as many as a worksheet can hold
MAX_TABLE_BYTES = 2**28  # of a CSV, or of the unpacked XML of a workbook
MAX_WORKBOOK_BYTES = 2**25  # of a workbook as it is stored


def table_size_error(path: Location, expected: str, got: str) -> LabelError:
    """Return the error for a table that is larger than `expected`."""
    return LabelError(
        f"{path}: the label table is too large",
        expected=f"at most {expected}",
        got=got,
        do="keep only the columns with the id, age and gender, or divide the rows among tables and give each table its "
        "own --split",
    )
