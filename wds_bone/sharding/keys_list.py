"""Write `keys.csv`, which maps the keys of a set back to the ids in the label table they were made from.

In: the samples of each split that has such keys.
Out: the file: a header and `key,id,split` for each sample, sorted by split and key.
Invariant: the rows of a split are those of its samples; they stay in the file until the split is written again.
"""

import csv
import io
from collections.abc import Mapping

from wds_bone.storage.durable import read_parsed, write_bytes_atomically
from wds_bone.storage.folders import delete_files
from wds_bone.storage.location import Location, exists

KEYS_NAME = "keys.csv"
_COLUMNS = ["key", "id", "split"]
_DELETE_LIST = "delete this file, and write its splits again with --replace"


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
    old = read_parsed(path, _parse, do=_DELETE_LIST) if is_there else []
    rows = [row for row in old if row[2] not in ids]
    rows += [[key, identity, split] for split, part in ids.items() for key, identity in part.items()]
    rows.sort(key=lambda row: (row[2], row[0]))
    if rows and rows != old:
        write_bytes_atomically(path, _format(rows))
    elif is_there and not rows:
        delete_files(out, [KEYS_NAME])


def _format(rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_COLUMNS, *rows])
    return text.getvalue().encode(errors="surrogateescape")


def _parse(contents: bytes) -> list[list[str]]:
    text = io.StringIO(contents.decode(errors="surrogateescape"), newline="")
    header, *rows = csv.reader(text, strict=True)
    if header != _COLUMNS or any(len(row) != len(_COLUMNS) for row in rows):
        raise ValueError("not a list of keys")
    return rows
