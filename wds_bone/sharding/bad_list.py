"""Read and write `bad.jsonl`, which lists the samples that were left out of a set, one per line.

In: rejected samples, and the splits that each of them might have been in.
Out: the file, or the samples it lists.
Invariant: a line stays in the file until one of its splits is written again.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass

from wds_bone.labels.read import RejectedSample
from wds_bone.storage.durable import read_parsed, write_bytes_atomically
from wds_bone.storage.folders import delete_files
from wds_bone.storage.location import Location, exists

BAD_NAME = "bad.jsonl"
_DELETE_LIST = "delete this file; it only lists the samples that were left out"


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
    return [line.bad for line in _read_lines(out / BAD_NAME) if set(line.splits) & set(splits)]


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
    lines = [line for line in _read_lines(path) if not set(line.splits) & set(written)]
    lines += [BadLine(bad, written) for bad in unassigned]
    lines += [BadLine(bad, (split,)) for split, part in by_split.items() for bad in part]
    if lines:
        texts = [json.dumps({**asdict(line.bad), "splits": line.splits}) for line in lines]
        write_bytes_atomically(path, "".join(text + "\n" for text in texts).encode())
        return
    delete_files(out, [BAD_NAME])


def _read_lines(path: Location) -> list[BadLine]:
    return read_parsed(path, _parse, do=_DELETE_LIST) if exists(path) else []


def _parse(contents: bytes) -> list[BadLine]:
    rows = [json.loads(line) for line in contents.decode().splitlines()]
    return [BadLine(RejectedSample(row["key"], row["cause"], row["problem"]), tuple(row["splits"])) for row in rows]
