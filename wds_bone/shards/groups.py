"""Write and read the patient groups of a shard: one number per sample, equal for all films of a patient.

In: group numbers in the order of the sample table.
Out: the sidecar `<shard>.groups.npy`, or the verified numbers.
Invariant: the sidecar is optional and contains nothing else about a patient; the same numbers give the same bytes.
Numbers can be compared within a set, but not between sets.
"""

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from wds_bone.errors import ShardError, WdsBoneError
from wds_bone.shards.manifest import Manifest, ShardEntry, SplitEntry, groups_name
from wds_bone.storage.location import Location, exists, read_verified

Value = TypeVar("Value")
Groups = NDArray[np.uint32]
"""uint32 (n,), the group of each sample of a shard."""

_HEADER_BYTES = 128
_MAGIC = b"\x93NUMPY\x01\x00\x76\x00"  # version 1.0, and the length of the text that follows
_NO_GROUPS = np.empty(0, np.uint32)
_REGROUP = "fetch the set again, or rebuild it with `wds-bone make-shards --patient-column NAME --replace`"
_REGROUP_OR_DELETE = f"{_REGROUP}, or delete this file if the films of a patient may be separated"


def groups_as_bytes(groups: Groups) -> bytes:
    """Return the contents of the sidecar for `groups`, which any version of NumPy can read."""
    return _header(len(groups)) + groups.astype("<u4").tobytes()


def read_groups(folder: Location, entry: ShardEntry) -> Groups:
    """Return the groups of a shard that has them.

    Raises:
        ShardError: if the sidecar is missing, or does not match the manifest entry.
    """
    path = folder / groups_name(entry.name)

    def parse(contents: bytes) -> Groups:
        if (found := hashlib.sha256(contents).hexdigest()) != entry.groups_sha256:
            got, expected = f"sha256 {found}", f"sha256 {entry.groups_sha256}"
            raise ShardError(f"{path}: is damaged", expected=expected, got=got, do=_REGROUP)
        return _parse(contents, entry.num_samples, path, do=_REGROUP)

    return _read(path, parse, do=_REGROUP)


def join_groups(shards: Sequence[tuple[Location, ShardEntry | None, int]]) -> NDArray[np.int64]:
    """Return the groups of all samples of `shards`, int64 (n,), different for the shards of different folders.

    Args:
        shards: the folder, the manifest entry and the number of samples of each shard. Every sample of a shard without
            groups becomes a group of its own.

    Raises:
        ShardError: if `read_groups` refuses the groups of a shard.
    """
    folders = {folder: number for number, folder in enumerate(dict.fromkeys(folder for folder, _, _ in shards))}
    ends = np.cumsum([num_samples for _, _, num_samples in shards])
    joined = -1 - np.arange(ends[-1])  # negative numbers cannot be equal to those of a sidecar
    for (folder, entry, num_samples), end in zip(shards, ends, strict=True):
        if entry is not None and entry.groups_sha256 is not None:
            joined[end - num_samples : end] = read_groups(folder, entry).astype(np.int64) + (folders[folder] << 32)
    return joined


def adopt_groups(folder: Location, manifest: Manifest) -> Manifest:
    """Return `manifest` with the digests of the groups that are in `folder`.

    Raises:
        ShardError: if groups cannot be read, or their number differs from that of the samples.
    """
    return replace(manifest, splits={name: _adopt(folder, split) for name, split in manifest.splits.items()})


def check_groups(folder: Location, manifest: Manifest, names: Collection[str]) -> Iterator[WdsBoneError]:
    """Yield the problems of the groups of the shards `names`: damaged, not listed, or a patient in two splits."""
    by_split: dict[str, Groups] = {}
    for name, split in manifest.splits.items():
        found = [_groups_or_error(folder, entry) for entry in split.shards if entry.name in names]
        yield from (error for error in found if isinstance(error, WdsBoneError))
        parts = [groups for groups in found if not isinstance(groups, WdsBoneError)]
        by_split[name] = np.concatenate([_NO_GROUPS, *parts])
    for first, second in combinations(by_split, 2):
        if num_shared := len(np.intersect1d(by_split[first], by_split[second])):
            yield ShardError(
                f"{folder}: the splits '{first}' and '{second}' share patients",
                expected="all films of a patient in one split",
                got=f"patients in both: {num_shared:,}",
                do="rewrite the set; a patient in two splits makes the results look too good",
            )


def _groups_or_error(folder: Location, entry: ShardEntry) -> Groups | WdsBoneError:
    path = folder / groups_name(entry.name)
    if entry.groups_sha256 is None:
        return _not_listed(path) if exists(path) else _NO_GROUPS
    try:
        return read_groups(folder, entry)
    except WdsBoneError as error:
        return error


def _not_listed(path: Location) -> ShardError:
    return ShardError(f"{path}: is not listed in the manifest, so it has no effect", do=_REGROUP_OR_DELETE)


def _adopt(folder: Location, split: SplitEntry) -> SplitEntry:
    return replace(split, shards=tuple(_adopt_shard(folder, entry) for entry in split.shards))


def _adopt_shard(folder: Location, entry: ShardEntry) -> ShardEntry:
    path = folder / groups_name(entry.name)
    if not exists(path):
        return entry

    def digest(contents: bytes) -> str:
        _parse(contents, entry.num_samples, path, do=_REGROUP_OR_DELETE)
        return hashlib.sha256(contents).hexdigest()

    return replace(entry, groups_sha256=_read(path, digest, do=_REGROUP_OR_DELETE))


def _header(num_samples: int) -> bytes:
    # Written here, because the padding of NumPy's own header differs between its versions.
    text = f"{{'descr': '<u4', 'fortran_order': False, 'shape': ({num_samples},), }}"
    return _MAGIC + text.ljust(_HEADER_BYTES - len(_MAGIC) - 1).encode() + b"\n"


def _parse(contents: bytes, num_samples: int, path: Location, *, do: str) -> Groups:
    if contents[:_HEADER_BYTES] != _header(num_samples) or len(contents) != _HEADER_BYTES + 4 * num_samples:
        raise ShardError(
            f"{path}: not the patient groups of its shard",
            expected=f"a .npy file with {num_samples:,} numbers, uint32",
            got=f"{len(contents):,} bytes",
            do=do,
        )
    return np.frombuffer(contents, "<u4", offset=_HEADER_BYTES)


def _read(path: Location, parse: Callable[[bytes], Value], *, do: str) -> Value:
    try:
        return read_verified(path, parse)
    except OSError as error:
        raise ShardError(f"{path}: cannot be read: {error.strerror}", do=do) from error
