"""The list `bad.jsonl` of the samples that were left out of a set, a line for each.

In: rejected samples and the splits they would be in. Out: the file, or what it says. Invariant: a line lives as long as
one of its splits is not written anew.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from wds_bone.labels.read import Rejected
from wds_bone.storage.durable import publish_bytes, read_published, storage_errors

BAD_NAME = "bad.jsonl"
_DELETE = "delete this file; it only lists the samples that were left out"


@dataclass(frozen=True)
class BadLine:
    """A sample that was left out, and the splits it could have been in."""

    bad: Rejected
    splits: tuple[str, ...]


def read_bad(out: Path, splits: Collection[str]) -> list[Rejected]:
    """Return the samples that were left out of any of `splits` in the set `out`.

    Raises:
        ShardError: the list is damaged.
    """
    return [line.bad for line in _read_lines(out / BAD_NAME) if set(line.splits) & set(splits)]


def write_bad(out: Path, of_all: Sequence[Rejected], by_split: Mapping[str, Sequence[Rejected]]) -> None:
    """List the samples that were left out of the splits in `by_split`, beside those of the splits that stay.

    Args:
        out: the folder of the set.
        of_all: samples of which nobody can say in which of the splits they would be.
        by_split: the other samples.

    Raises:
        ShardError: the list that is there is damaged.
        WdsBoneError: the disk refuses.
    """
    path, written = out / BAD_NAME, tuple(by_split)
    lines = [line for line in _read_lines(path) if not set(line.splits) & set(written)]
    lines += [BadLine(bad, written) for bad in of_all]
    lines += [BadLine(bad, (split,)) for split, part in by_split.items() for bad in part]
    if lines:
        texts = [json.dumps({**asdict(line.bad), "splits": line.splits}) for line in lines]
        publish_bytes(path, "".join(text + "\n" for text in texts).encode())
        return
    with storage_errors(path):
        path.unlink(missing_ok=True)


def _read_lines(path: Path) -> list[BadLine]:
    return read_published(path, _parse, do=_DELETE) if path.exists() else []


def _parse(contents: bytes) -> list[BadLine]:
    rows = [json.loads(line) for line in contents.decode().splitlines()]
    return [BadLine(Rejected(row["key"], row["cause"], row["problem"]), tuple(row["splits"])) for row in rows]
