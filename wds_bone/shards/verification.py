"""Compare shards with their sidecars and manifest, and find every problem.

In: a folder and its manifest.
Out: the problems, as errors that are yielded instead of raised.
Invariant: an error names the file and, if possible, the sample; it never hides the next one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from zlib_ng.zlib_ng import crc32

from wds_bone.errors import ShardError, WdsBoneError
from wds_bone.shards.foreign import split_name
from wds_bone.shards.groups import check_groups
from wds_bone.shards.image_size import mixed_sizes_error
from wds_bone.shards.manifest import REBUILD, ImageFormat, Manifest, ShardEntry, SplitEntry
from wds_bone.shards.samples import SampleTable, join_tables
from wds_bone.shards.scan import ScannedShard, scan_shard
from wds_bone.shards.sidecars import REINDEX, duplicate_keys, read_sidecar, shard_entry, sidecar_contents
from wds_bone.shards.statistics import label_statistics
from wds_bone.storage.location import Location, is_file, open_file, read_file

MAX_LISTED = 5


class Decoder(Protocol):
    """Function that decodes an image; the caller supplies it, because `shards` must not import `stream`."""

    def __call__(self, contents: bytes, encoding: str, row: NDArray[np.uint8], /, *, fit: bool) -> None:
        """Decode `contents` into `row`, uint8 (H, W), letterboxed if `fit`; raise ValueError on failure."""


def check_shards(
    folder: Location,
    names: Sequence[str],
    manifest: Manifest | None,
    *,
    decode: Decoder | None,
    on_checked: Callable[[str, Mapping[str, int]], None],
) -> Iterator[WdsBoneError]:
    """Yield the problems of the shards `names` in `folder`, and of every split whose shards are all named.

    Args:
        folder: the folder of the shards.
        names: the file names of the shards.
        manifest: the manifest of the folder, or None if it has no valid one.
        decode: decoder to try on every image, or None to skip decoding.
        on_checked: called with the name of each shard after it has been checked, and the number of its members that
            are neither image nor label, by extension.
    """
    entries = manifest.shard_entries if manifest else {}
    tables: dict[str, SampleTable] = {}
    sizes: set[tuple[int, int]] = set()
    for name in names:
        shard, ignored = _scan(folder / name), dict[str, int]()
        if isinstance(shard, WdsBoneError):
            yield shard
            yield from _damaged_samples(folder, entries.get(name))
        else:
            tables[name], ignored = shard.table, dict(shard.ignored)
            sizes |= shard.image_sizes
            yield from _check_shard(folder, shard, entries.get(name), manifest)
            yield from _undecodable_samples(folder / name, shard, manifest.image if manifest else None, decode)
        on_checked(name, ignored)
    yield from _check_set(folder, tables, sizes, manifest)
    if manifest is not None:
        yield from check_groups(folder, manifest, names)


def _scan(path: Location) -> ScannedShard | WdsBoneError:
    try:
        return scan_shard(path)
    except WdsBoneError as error:
        return error


def _check_shard(
    folder: Location, shard: ScannedShard, entry: ShardEntry | None, manifest: Manifest | None
) -> Iterator[WdsBoneError]:
    path = folder / shard.name
    if manifest is not None and entry is None:
        yield ShardError(f"{path}: is not listed in the manifest", do="move it elsewhere")
        return
    yield from _check_sidecars(folder, shard, must_exist=entry is not None)
    if manifest is None or entry is None:
        return
    if (found := replace(shard_entry(shard), groups_sha256=entry.groups_sha256)) != entry:
        names = [name for name, value in vars(entry).items() if value != vars(found)[name]]
        expected, got = (", ".join(f"{name} {vars(each)[name]}" for name in names) for each in (entry, found))
        yield ShardError(f"{path}: does not match the manifest", expected=expected, got=got, do=REBUILD)
        yield from _damaged_samples(folder, entry)
    yield from _check_images(path, shard, manifest.image)


def _check_sidecars(folder: Location, shard: ScannedShard, *, must_exist: bool) -> Iterator[WdsBoneError]:
    for name, contents in sidecar_contents(shard).items():
        path = folder / name
        if not is_file(path):
            if must_exist:
                yield ShardError(f"{path}: missing", expected="a file", got="none", do=REINDEX)
            continue
        try:
            found = read_file(path)
        except OSError as error:
            yield ShardError(f"{path}: cannot be read: {error.strerror}", do=REINDEX)
            continue
        if found != contents:
            yield ShardError(f"{path}: does not match {shard.name}", do=REINDEX)


def _check_images(path: Location, shard: ScannedShard, image: ImageFormat) -> Iterator[WdsBoneError]:
    wrong = sorted(shard.image_sizes - {(image.height, image.width)})
    if wrong and not image.is_letterboxed_on_read:
        expected = f"{image.height} x {image.width} pixels"
        yield ShardError(f"{path}: images of the wrong size", expected=expected, got=_format_sizes(wrong), do=REBUILD)
    encodings = {encoding.decode() for encoding in set(shard.table["encoding"].tolist())}
    if image.encoding is not None and encodings - {image.encoding}:
        got = ", ".join(sorted(encodings))
        yield ShardError(f"{path}: images in the wrong encoding", expected=image.encoding, got=got, do=REBUILD)


def _format_sizes(sizes: Sequence[tuple[int, int]]) -> str:
    return ", ".join(f"{height} x {width}" for height, width in sizes[:MAX_LISTED]) + " pixels"


def _check_set(
    folder: Location, tables: Mapping[str, SampleTable], sizes: set[tuple[int, int]], manifest: Manifest | None
) -> Iterator[WdsBoneError]:
    """Yield mixed sizes, repeated keys, empty splits and wrong label statistics."""
    if manifest is None and len(sizes) > 1:
        yield mixed_sizes_error(folder, sizes)
    for key, first, second in duplicate_keys(tables):
        do = "rewrite the set; a sample in two splits makes the results look too good"
        yield ShardError(f"{folder}: sample '{key}' is in {first} and in {second}", expected="each key once", do=do)
    for name, shards, split in _splits(tables, manifest):
        table = join_tables([tables[shard] for shard in shards])
        if len(table):
            yield from _check_labels(f"{folder}: split '{name}'", table, split)
        else:
            expected = f"{split.num_samples:,}" if split else "at least one"
            yield ShardError(f"{folder}: the split '{name}' has no samples", expected=expected, got=0, do=REBUILD)


def _splits(
    tables: Mapping[str, SampleTable], manifest: Manifest | None
) -> Iterator[tuple[str, Sequence[str], SplitEntry | None]]:
    """Yield (name, shards, manifest entry) of every split whose shards have all been read."""
    if manifest is None:
        for name in dict.fromkeys(map(split_name, tables)):
            yield name, [shard for shard in tables if split_name(shard) == name], None
        return
    for name, split in manifest.splits.items():
        shards = [shard.name for shard in split.shards]
        if all(shard in tables for shard in shards):
            yield name, shards, split


def _check_labels(where: str, table: SampleTable, split: SplitEntry | None) -> Iterator[WdsBoneError]:
    found = label_statistics(table) if split else {}
    for statistic in found:
        if split and found[statistic] != split.labels.get(statistic):
            problem = f"{where}: wrong label statistic '{statistic}'"
            yield ShardError(problem, expected=split.labels.get(statistic), got=found[statistic], do=REBUILD)


def _damaged_samples(folder: Location, entry: ShardEntry | None) -> Iterator[WdsBoneError]:
    """Yield an error that lists the samples whose image fails the checksum in the sidecar."""
    if entry is None:
        return
    try:
        table = read_sidecar(folder, entry)
        damaged = [row for row, image in _images(folder / entry.name, table) if crc32(image) != row["crc32"]]
    except WdsBoneError as error:
        yield error
        return
    except OSError:  # the scan has reported it
        return
    if damaged:
        keys = ", ".join(row["key"].decode() for row in damaged[:MAX_LISTED])
        more = f" and {len(damaged) - MAX_LISTED} more" if len(damaged) > MAX_LISTED else ""
        yield ShardError(f"{folder / entry.name}: images that fail their checksums: {keys}{more}", do=REBUILD)


def _undecodable_samples(
    path: Location, shard: ScannedShard, image: ImageFormat | None, decode: Decoder | None
) -> Iterator[WdsBoneError]:
    sizes = {(image.height, image.width)} if image else shard.image_sizes
    if decode is None or len(sizes) != 1:
        return
    ((height, width),) = sizes
    fit = image is not None and image.is_letterboxed_on_read
    pixels = np.empty((height, width), np.uint8)
    for row, contents in _images(path, shard.table):
        try:
            decode(contents, row["encoding"].decode(), pixels, fit=fit)
        except ValueError as error:
            expected = f"{row['encoding'].decode()}, {height} x {width}"
            key = row["key"].decode()
            yield ShardError(f"{path}: sample '{key}' cannot be decoded", expected=expected, got=error, do=REBUILD)


def _images(path: Location, table: SampleTable) -> Iterator[tuple[np.void, bytes]]:
    with open_file(path) as tar:
        for row in table:
            tar.seek(int(row["offset"]))
            yield row, tar.read(int(row["size"]))
