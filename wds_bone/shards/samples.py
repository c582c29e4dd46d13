"""Build, write and read the sample table: one row per sample, with the location of its image and its label.

In: the rows found by `scan_shard`.
Out: the sidecar `<shard>.index.npy`, a NumPy file without pickle.
Invariant: the rows are in the order of the tar, and the same shard gives the same bytes. Reading a table allocates
nothing beyond the file, whatever its header claims.
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


MAX_KEY_BYTES = 200


def is_key(key: bytes) -> bool:
    """Return whether `key` is one: at most 200 bytes of UTF-8, printable, without '..' or a leading '/'."""
    try:
        parts = key.decode().split("/")
    except UnicodeDecodeError:
        return False
    return len(key) <= MAX_KEY_BYTES and all(part not in ("", ".", "..") and part.isprintable() for part in parts)


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
        rows = joined[start : start + len(table)]
        if table.dtype == joined.dtype:
            whole_rows = f"V{joined.itemsize}"  # copied five times as fast as field by field
            rows.view(whole_rows)[:] = table.view(whole_rows)
        else:
            rows[:] = table
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
        count, dtype, rows_at = _read_header(contents)
        expected = sample_dtype(dtype["key"].itemsize)
    except Exception as error:  # NumPy raises all kinds of errors, and warnings, for a broken header
        raise _not_a_table(path, str(error)[:200]) from error
    if dtype != expected:
        raise _not_a_table(path, dtype)
    if len(contents) - rows_at != count * dtype.itemsize:
        raise _not_a_table(path, f"{len(contents) - rows_at:,} bytes for {count:,} rows of {dtype.itemsize}")
    return np.frombuffer(contents, dtype, offset=rows_at, count=count)


def _read_header(contents: bytes) -> tuple[int, np.dtype[np.void], int]:
    """Return the number of rows, their type, and the position of the first one."""
    stream = io.BytesIO(contents)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("not a .npy file of version 1.0")
    (count,), _, dtype = np.lib.format.read_array_header_1_0(stream)
    return count, dtype, stream.tell()


def _not_a_table(path: Location | str, found: object) -> ShardError:
    return ShardError(
        f"{path}: not a sample table",
        expected="a .npy file with the fields " + ", ".join(sample_dtype(1).names or ()),
        got=found,
        do="rewrite the index with `wds-bone index FOLDER`",
    )
