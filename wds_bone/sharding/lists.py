"""Read and write the lists of a set: `bad.jsonl`, the samples that were left out, and `keys.csv`, the ids of its keys.

In: rejected samples, and the splits that each of them might have been in; the ids that the keys of a split are made of.
Out: the files, or the samples that `bad.jsonl` lists. `keys.csv` has a header, and `key,id,split` for each sample,
sorted by split and key.
Invariant: a line stays in its file until one of its splits is written again.
"""

import csv
import io
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass

from wds_bone.labels.read import RejectedSample
from wds_bone.storage.durable import read_parsed, write_bytes_atomically
from wds_bone.storage.folders import delete_files
from wds_bone.storage.location import Location, exists

BAD_NAME = "bad.jsonl"
KEYS_NAME = "keys.csv"
_KEYS_COLUMNS = ["key", "id", "split"]
_DELETE_BAD = "delete this file; it only lists the samples that were left out"
_DELETE_KEYS = "delete this file, and write its splits again with --replace"


@dataclass(frozen=True)
class BadLine:
    """A sample that was left out, and the splits it might have been in."""

    bad: RejectedSample
    splits: tuple[str, ...]


def read_bad(out: Location, splits: Collection[str]) -> list[RejectedSample]:
    """Return the samples that were left out of any of `splits` in the set `out`.

    Raises:
        ShardError: if the list is damaged.
    """
    return [line.bad for line in _read_bad_lines(out / BAD_NAME) if set(line.splits) & set(splits)]


def write_bad(
    out: Location, unassigned: Sequence[RejectedSample], by_split: Mapping[str, Sequence[RejectedSample]]
) -> None:
    """Replace the lines of the splits in `by_split`, and keep those of all other splits.

    Args:
        out: the folder or prefix of the set.
        unassigned: the samples that were left out before it was known which of these splits they belong to.
        by_split: the samples that were left out of each split.

    Raises:
        ShardError: if the existing list is damaged.
        WdsBoneError: if the file cannot be written.
    """
    path, written = out / BAD_NAME, tuple(by_split)
    lines = [line for line in _read_bad_lines(path) if not set(line.splits) & set(written)]
    lines += [BadLine(bad, written) for bad in unassigned]
    lines += [BadLine(bad, (split,)) for split, part in by_split.items() for bad in part]
    if lines:
        texts = [json.dumps({**asdict(line.bad), "splits": line.splits}) for line in lines]
        write_bytes_atomically(path, "".join(text + "\n" for text in texts).encode())
        return
    delete_files(out, [BAD_NAME])


def _read_bad_lines(path: Location) -> list[BadLine]:
    return read_parsed(path, _parse_bad, do=_DELETE_BAD) if exists(path) else []


def _parse_bad(contents: bytes) -> list[BadLine]:
    rows = [json.loads(line) for line in contents.decode().splitlines()]
    return [BadLine(RejectedSample(row["key"], row["cause"], row["problem"]), tuple(row["splits"])) for row in rows]


def write_keys(out: Location, ids: Mapping[str, Mapping[str, str]]) -> None:
    """Replace the rows of the splits in `ids`, and keep those of all other splits; a file without rows is deleted.

    Args:
        out: the folder or prefix of the set.
        ids: per split, the id of each key; none for a split whose keys are the ids.

    Raises:
        ShardError: if the existing file is damaged.
        WdsBoneError: if the file cannot be written.
    """
    path, is_there = out / KEYS_NAME, exists(out / KEYS_NAME)
    old = read_parsed(path, _parse_keys, do=_DELETE_KEYS) if is_there else []
    rows = [row for row in old if row[2] not in ids]
    rows += [[key, identity, split] for split, part in ids.items() for key, identity in part.items()]
    rows.sort(key=lambda row: (row[2], row[0]))
    if rows and rows != old:
        write_bytes_atomically(path, _format_keys(rows))
    elif is_there and not rows:
        delete_files(out, [KEYS_NAME])


def _format_keys(rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_KEYS_COLUMNS, *rows])
    return text.getvalue().encode(errors="surrogateescape")


def _parse_keys(contents: bytes) -> list[list[str]]:
    text = io.StringIO(contents.decode(errors="surrogateescape"), newline="")
    header, *rows = csv.reader(text, strict=True)
    if header != _KEYS_COLUMNS or any(len(row) != len(_KEYS_COLUMNS) for row in rows):
        raise ValueError("not a list of keys")
    return rows
