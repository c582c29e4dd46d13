"""Build, write and read the sample table: one row per sample, with the location of its image and its label.

In: the rows found by `scan_shard`.
Out: the sidecar `<shard>.index.npy`, a NumPy file without pickle.
Invariant: the rows are in the order of the tar, and the same shard gives the same bytes.
"""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wds_bone.errors import ShardError
from wds_bone.storage.location import Location

SampleTable = NDArray[np.void]
"""A structured array with the fields of `sample_dtype`, one row per sample."""


def sample_dtype(key_bytes: int) -> np.dtype[np.void]:
    """Return the dtype of a row for keys of at most `key_bytes` bytes; a row of RSNA data takes 29 bytes."""
    return np.dtype(
        [
            ("key", f"S{max(1, key_bytes)}"),
            ("offset", "<u8"),  # of the image's first byte in the tar
            ("size", "<u4"),  # of the image, in bytes
            ("crc32", "<u4"),  # of the image's bytes
            ("age_months", "<f4"),
            ("gender", "S1"),  # F or M
            ("encoding", "S3"),  # jpg, png or npy
        ]
    )


def make_table(rows: Sequence[tuple[Any, ...]]) -> SampleTable:
    """Return the table of `rows`, which are tuples in the order of the fields."""
    return np.array(rows, dtype=sample_dtype(max((len(row[0]) for row in rows), default=1)))


def join_tables(tables: Sequence[SampleTable]) -> SampleTable:
    """Return the concatenated rows of `tables`, with keys as wide as the widest."""
    width = max((table.dtype["key"].itemsize for table in tables), default=1)
    joined = np.empty(sum(map(len, tables)), dtype=sample_dtype(width))
    start = 0
    for table in tables:
        joined[start : start + len(table)] = table
        start += len(table)
    return joined


def add_field(table: SampleTable, name: str, values: NDArray[np.int64]) -> SampleTable:
    """Return a copy of `table` with one more field, int64, that has these values."""
    extended = np.empty(len(table), [*table.dtype.descr, (name, "<i8")])
    for field in table.dtype.names or ():
        extended[field] = table[field]
    extended[name] = values
    return extended


def table_as_bytes(table: SampleTable) -> bytes:
    """Return the contents of the sidecar for `table`."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, table, version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def table_from_bytes(contents: bytes, path: Location | str) -> SampleTable:
    """Return the table in a sidecar's `contents`; `path` is for error messages.

    Raises:
        ShardError: if the contents are not a sample table.
    """
    try:
        table = np.load(io.BytesIO(contents), allow_pickle=False)
        expected = sample_dtype(table.dtype["key"].itemsize)
    except (ValueError, KeyError, EOFError, OSError, MemoryError) as error:
        raise _not_a_table(path, error) from error
    if table.dtype != expected or table.ndim != 1:
        raise _not_a_table(path, f"{table.dtype} {table.shape}")
    return table  # type: ignore[no-any-return]


def _not_a_table(path: Location | str, found: object) -> ShardError:
    return ShardError(
        f"{path}: not a sample table",
        expected="a .npy file with the fields " + ", ".join(sample_dtype(1).names or ()),
        got=found,
        do="rewrite the index with `wds-bone index FOLDER`",
    )
