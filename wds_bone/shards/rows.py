"""Check that the rows of a sample table can describe a shard, before anything is allocated or read because of them.

In: a sample table, whose digest anybody can compute again after a change, and the size of the tar.
Out: nothing, or an error that names the row.
Invariant: rows that pass are in the order of the tar, do not overlap, end inside it, and have labels in range. Only
`wds-bone verify` compares them with the tar itself. Ten million rows take a second.
"""

from collections.abc import Iterator
from typing import cast, get_args

import numpy as np
from numpy.typing import NDArray

from wds_bone.errors import ShardError
from wds_bone.labels.values import MAX_AGE_MONTHS
from wds_bone.shards.manifest import Encoding
from wds_bone.shards.samples import SampleTable, is_key
from wds_bone.shards.tar import BLOCK_BYTES, END_BYTES, MAX_MEMBER_BYTES
from wds_bone.storage.location import Location

Mask = NDArray[np.bool_]
_ROWS_AT_ONCE = 2**17  # some megabytes per column, whatever the size of the table

_USUAL_BYTES = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-/\0"


def check_rows(table: SampleTable, path: Location, *, shard_bytes: int, do: str) -> None:
    """Refuse a table with a row that no shard of `shard_bytes` bytes can have.

    Raises:
        ShardError: for the first such row of the first rule that is broken.
    """
    previous_end = 0
    for first in range(0, len(table), _ROWS_AT_ONCE):
        rows = table[first : first + _ROWS_AT_ONCE]
        for expected, column, is_good in _rules(rows, shard_bytes, previous_end):
            if not is_good.all():
                number = int(np.argmin(is_good))
                got = f"{column} {rows[column][number]!r} in row {first + number:,}"
                raise ShardError(f"{path}: a row is out of range", expected=expected, got=got, do=do)
        previous_end = int(_padded_end(rows[-1:])[0])


def _rules(rows: SampleTable, shard_bytes: int, previous_end: int) -> Iterator[tuple[str, str, Mask]]:
    """Yield (what is expected, column, mask of the good rows); a rule relies on the ones before it."""
    yield f"a size from 1 to {MAX_MEMBER_BYTES:,}", "size", (rows["size"] > 0) & (rows["size"] <= MAX_MEMBER_BYTES)
    offset = rows["offset"].astype(np.uint64)
    yield f"an offset inside the shard of {shard_bytes:,} bytes", "offset", offset < shard_bytes
    ends = _padded_end(rows)
    yield f"an image that ends before byte {shard_bytes - END_BYTES:,}", "offset", ends <= shard_bytes - END_BYTES
    yield f"a multiple of {BLOCK_BYTES}", "offset", offset % BLOCK_BYTES == 0
    first_possible = np.concatenate([[previous_end], ends[:-1]]) + BLOCK_BYTES
    yield "images in the order of the tar that do not overlap", "offset", offset.astype(np.int64) >= first_possible
    yield f"an age of 0 to {MAX_AGE_MONTHS} months", "age_months", _is_age(rows["age_months"])
    yield "F or M", "gender", (rows["gender"] == b"F") | (rows["gender"] == b"M")
    yield f"one of {', '.join(get_args(Encoding))}", "encoding", _is_encoding(rows["encoding"])
    yield "a printable key without '..' or a leading '/'", "key", _is_key(rows["key"])


def _padded_end(rows: SampleTable) -> NDArray[np.int64]:
    ends = rows["offset"].astype(np.int64) + rows["size"]
    return cast(NDArray[np.int64], ends + -ends % BLOCK_BYTES)


def _is_age(ages: NDArray[np.float32]) -> Mask:
    return (ages >= 0) & (ages <= MAX_AGE_MONTHS)  # False for NaN


def _is_encoding(encodings: NDArray[np.bytes_]) -> Mask:
    return np.isin(encodings, [name.encode() for name in get_args(Encoding)])


def _is_key(keys: NDArray[np.bytes_]) -> Mask:
    """Return which keys the scan of a shard accepts; only those with unusual bytes are looked at one by one."""
    contents = keys.tobytes()
    letters = np.frombuffer(contents, np.uint8).reshape(len(keys), -1)
    good = np.ones(len(keys), bool)
    if b"\0" in contents or b"/" in contents:
        is_end, is_slash = letters == 0, letters == ord("/")
        is_gap = is_end | is_slash
        is_bad = (is_end[:, :-1] & ~is_end[:, 1:]) | (is_slash[:, :-1] & is_gap[:, 1:])
        good = ~(is_gap[:, 0] | is_slash[:, -1] | is_bad.any(axis=1))
    if contents.translate(None, _USUAL_BYTES):
        is_unusual = ~np.isin(letters, np.frombuffer(_USUAL_BYTES, np.uint8)).all(axis=1)
        for number in np.flatnonzero(is_unusual):
            good[number] = is_key(bytes(keys[number]))
    return good
