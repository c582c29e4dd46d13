"""Compare shards with what is written beside them, and find all that is wrong.

In: a folder, and the manifest in it. Out: findings, as errors that are yielded instead of raised. Invariant: each names
the file and, where it can, the sample; a finding never keeps the next one from being found.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from zlib_ng.zlib_ng import crc32

from wds_bone.errors import ShardError, WdsBoneError
from wds_bone.shards.image_size import mixed_sizes
from wds_bone.shards.manifest import ImageFormat, Manifest, ShardEntry
from wds_bone.shards.samples import SampleTable, join_tables
from wds_bone.shards.scan import ScannedShard, scan_shard
from wds_bone.shards.sidecars import REINDEX, read_sidecar, repeated_keys, shard_entry, sidecar_contents
from wds_bone.shards.statistics import label_statistics

REBUILD = "fetch it again, or rebuild it with `python scripts/make_shards.py`"
MAX_NAMED = 5


class Decoder(Protocol):
    """What decodes an image; this room has no decoder."""

    def __call__(self, contents: bytes, encoding: str, row: NDArray[np.uint8], /, *, fit: bool) -> None:
        """Decode `contents` into `row`, uint8 (H, W), letterboxed if `fit`, or raise ValueError."""


def check_shards(
    folder: Path,
    names: Sequence[str],
    manifest: Manifest | None,
    *,
    decode: Decoder | None,
    show: Callable[[str], None],
) -> Iterator[WdsBoneError]:
    """Yield what is wrong with the shards `names` in `folder`, and with the set if they are all of it.

    Args:
        folder: of the shards.
        names: of the files.
        manifest: of the folder, if it has a sound one.
        decode: decodes every image too.
        show: is told the name of each shard when it has been checked.
    """
    entries = {shard.name: shard for split in manifest.splits.values() for shard in split.shards} if manifest else {}
    tables: dict[str, SampleTable] = {}
    sizes: set[tuple[int, int]] = set()
    for name in names:
        shard = _scan(folder / name)
        if isinstance(shard, WdsBoneError):
            yield shard
            yield from _damaged_samples(folder, entries.get(name))
        else:
            tables[name] = shard.table
            sizes |= shard.image_sizes
            yield from _check_shard(folder, shard, entries.get(name), manifest)
            yield from _undecodable_samples(folder / name, shard, manifest.image if manifest else None, decode)
        show(name)
    yield from _check_set(folder, tables, sizes, manifest)


def _scan(path: Path) -> ScannedShard | WdsBoneError:
    try:
        return scan_shard(path)
    except WdsBoneError as error:
        return error


def _check_shard(
    folder: Path, shard: ScannedShard, entry: ShardEntry | None, manifest: Manifest | None
) -> Iterator[WdsBoneError]:
    path = folder / shard.name
    if manifest is not None and entry is None:
        do = "move it elsewhere: a glob would read it, the manifest does not"
        yield ShardError(f"{path}: is not in the manifest", do=do)
        return
    yield from _check_sidecars(folder, shard, must_exist=entry is not None)
    if manifest is None or entry is None:
        return
    if (found := shard_entry(shard)) != entry:
        names = [name for name, value in vars(entry).items() if value != vars(found)[name]]
        expected, got = (", ".join(f"{name} {vars(it)[name]}" for name in names) for it in (entry, found))
        yield ShardError(f"{path}: is not what the manifest says", expected=expected, got=got, do=REBUILD)
        yield from _damaged_samples(folder, entry)
    yield from _check_images(path, shard, manifest.image)


def _check_sidecars(folder: Path, shard: ScannedShard, *, must_exist: bool) -> Iterator[WdsBoneError]:
    for name, contents in sidecar_contents(shard).items():
        path = folder / name
        if not path.is_file():
            if must_exist:
                yield ShardError(f"{path}: missing", expected="a file", got="none", do=REINDEX)
            continue
        try:
            found = path.read_bytes()
        except OSError as error:
            yield ShardError(f"{path}: cannot be read: {error.strerror}", do=REINDEX)
            continue
        if found != contents:
            yield ShardError(f"{path}: does not say what {shard.name} says", do=REINDEX)


def _check_images(path: Path, shard: ScannedShard, image: ImageFormat) -> Iterator[WdsBoneError]:
    wrong = sorted(shard.image_sizes - {(image.height, image.width)})
    if wrong and not image.fits_at_reading:
        expected = f"{image.height} x {image.width} pixels"
        yield ShardError(f"{path}: images of another size", expected=expected, got=wrong[:MAX_NAMED], do=REBUILD)
    encodings = {encoding.decode() for encoding in set(shard.table["encoding"].tolist())}
    if image.encoding is not None and encodings - {image.encoding}:
        got = ", ".join(sorted(encodings))
        yield ShardError(f"{path}: images of another encoding", expected=image.encoding, got=got, do=REBUILD)


def _check_set(
    folder: Path, tables: Mapping[str, SampleTable], sizes: set[tuple[int, int]], manifest: Manifest | None
) -> Iterator[WdsBoneError]:
    """Find mixed sizes, keys that occur twice, and statistics that are not those of the labels."""
    if manifest is None and len(sizes) > 1:
        yield mixed_sizes(folder, sizes)
    for key, first, second in repeated_keys(tables):
        do = "write the set again: a sample in two splits makes every result too good"
        yield ShardError(f"{folder}: sample '{key}' is in {first} and in {second}", expected="each key once", do=do)
    for name, split in manifest.splits.items() if manifest else ():
        if not all(shard.name in tables for shard in split.shards):
            continue
        table = join_tables([tables[shard.name] for shard in split.shards])
        if not len(table):
            yield ShardError(
                f"{folder}: the split '{name}' has no sample", expected=split.num_samples, got=0, do=REBUILD
            )
            continue
        found = label_statistics(table)
        for what in found:
            if found[what] != split.labels.get(what):
                where = f"{folder}: split '{name}': the {what} of the labels"
                yield ShardError(where, expected=split.labels.get(what), got=found[what], do=REBUILD)


def _damaged_samples(folder: Path, entry: ShardEntry | None) -> Iterator[WdsBoneError]:
    """Name the samples whose image does not have the checksum in the sidecar, if the sidecar is sound."""
    if entry is None:
        return
    try:
        table = read_sidecar(folder, entry)
        damaged = [row for row, image in _images(folder / entry.name, table) if crc32(image) != row["crc32"]]
    except (WdsBoneError, OSError) as error:
        yield _as_finding(folder / entry.name, error)
        return
    if damaged:
        keys = ", ".join(row["key"].decode() for row in damaged[:MAX_NAMED])
        more = f" and {len(damaged) - MAX_NAMED} more" if len(damaged) > MAX_NAMED else ""
        yield ShardError(f"{folder / entry.name}: images that fail their checksum: {keys}{more}", do=REBUILD)


def _undecodable_samples(
    path: Path, shard: ScannedShard, image: ImageFormat | None, decode: Decoder | None
) -> Iterator[WdsBoneError]:
    sizes = {(image.height, image.width)} if image else shard.image_sizes
    if decode is None or len(sizes) != 1:
        return
    ((height, width),) = sizes
    fit = image is not None and image.fits_at_reading
    pixels = np.empty((height, width), np.uint8)
    for row, contents in _images(path, shard.table):
        try:
            decode(contents, row["encoding"].decode(), pixels, fit=fit)
        except ValueError as error:
            expected = f"{row['encoding'].decode()}, {height} x {width}"
            key = row["key"].decode()
            yield ShardError(f"{path}: sample '{key}' cannot be decoded", expected=expected, got=error, do=REBUILD)


def _images(path: Path, table: SampleTable) -> Iterator[tuple[np.void, bytes]]:
    with path.open("rb") as tar:
        for row in table:
            tar.seek(int(row["offset"]))
            yield row, tar.read(int(row["size"]))


def _as_finding(path: Path, error: WdsBoneError | OSError) -> WdsBoneError:
    if isinstance(error, WdsBoneError):
        return error
    return ShardError(f"{path}: cannot be read: {error.strerror}", do=REBUILD)
