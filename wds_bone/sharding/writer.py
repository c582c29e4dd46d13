"""Write one shard: its tar, its sidecars, and finally the record that marks it as finished.

In: the plan of a shard, and a folder, or a prefix in object storage.
Out: a `ShardRecord`, which is also written to a file.
Invariant: the record exists only if all files it describes are on disk, and the bytes depend only on the plan.
"""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from wds_bone.errors import ImageError, WdsBoneError
from wds_bone.labels.read import RejectedSample
from wds_bone.phantom import Hand
from wds_bone.sharding.plan import ShardPlan
from wds_bone.sharding.source_images import read_sources, sample_fields
from wds_bone.sharding.sources import Source
from wds_bone.shards.encoding import encode_image
from wds_bone.shards.groups import Groups
from wds_bone.shards.manifest import ImageFormat, ShardEntry
from wds_bone.shards.scan import ScannedShard, scan_file
from wds_bone.shards.sidecars import write_sidecars
from wds_bone.storage.durable import read_parsed, write_atomically, write_bytes_atomically
from wds_bone.storage.location import Location, exists

_DELETE_RECORD = "delete this file and run the command again; the shard is written again"


@dataclass(frozen=True)
class ShardRecord:
    """A finished shard: its manifest entry, and the samples that were left out of it."""

    entry: ShardEntry
    rejected: tuple[RejectedSample, ...]


def write_shard(
    shard: ShardPlan, folder: Location, image: ImageFormat, *, max_bad: int | None, count: Callable[[int], None]
) -> ShardRecord:
    """Write `shard` to `folder` and return its record; memory holds one sample and the table of the shard.

    Films in object storage are read ahead, up to `FILMS_AHEAD` of them. For a prefix, the tar is written
    to a temporary file of this machine first.

    Args:
        shard: the name and the sources of the shard.
        folder: the folder for its files, or the prefix.
        image: the format of its images.
        max_bad: how many bad images may be left out; None makes the first one an error.
        count: called after each sample with the number of samples done.

    Raises:
        ImageError: if a film cannot be read, or more than `max_bad` films.
        WdsBoneError: if a file cannot be written.
    """
    rejected: list[RejectedSample] = []
    scanned: list[ScannedShard] = []

    def write(stream: BinaryIO) -> None:
        # Imported here because it imports torch, which takes too long for a mistyped command line.
        from webdataset import TarWriter

        with TarWriter(stream, mtime=0) as tar:
            for number, (source, pixels) in enumerate(read_sources(shard.sources, image), start=1):
                if (sample := _encode_sample(source, pixels, image, rejected, max_bad)) is not None:
                    tar.write(sample)
                count(number)
        scanned.append(scan_file(stream, folder / shard.name))

    write_atomically(folder / shard.name, write)
    entry = write_sidecars(folder, scanned[0], groups=_groups_of(shard, scanned[0]))
    record = ShardRecord(entry, tuple(rejected))
    write_bytes_atomically(record_path(folder, shard.name), json.dumps(dataclasses.asdict(record)).encode())
    return record


def _groups_of(shard: ShardPlan, scanned: ScannedShard) -> Groups | None:
    """Return the patient groups in the order of the finished shard; None if patients are not known."""
    by_key = {source.label.key.encode(): source.group for source in shard.sources}
    if None in by_key.values():
        return None
    return np.array([by_key[key] for key in scanned.table["key"].tolist()], np.uint32)


def read_record(folder: Location, shard_name: str) -> ShardRecord | None:
    """Return the record of a shard in `folder`, or None if the shard is not finished.

    Raises:
        ShardError: if the record is damaged.
    """
    path = record_path(folder, shard_name)
    return read_parsed(path, _parse_record, do=_DELETE_RECORD) if exists(path) else None


def _parse_record(contents: bytes) -> ShardRecord:
    record = json.loads(contents)
    return ShardRecord(ShardEntry(**record["entry"]), tuple(RejectedSample(**bad) for bad in record["rejected"]))


def record_path(folder: Location, shard_name: str) -> Location:
    """Return the path of the record of a shard."""
    return folder / (shard_name.removesuffix(".tar") + ".json")


def check_bad_budget(rejected: list[RejectedSample], max_bad: int | None) -> None:
    """Refuse more than `max_bad` rejected samples (None: more than none).

    Raises:
        ImageError: if there are more; the message gives their counts and the last of them.
    """
    if len(rejected) > (max_bad or 0):
        raise ImageError(
            f"too many bad samples; the last one is '{rejected[-1].key}': {rejected[-1].problem}",
            expected=f"at most {max_bad or 0}",
            got=f"{len(rejected)}: {format_causes(rejected)}",
            do="fix them, or allow more with --on-bad skip --max-bad N",
        )


def format_causes(rejected: list[RejectedSample]) -> str:
    """Return a phrase with the number of rejected samples per cause."""
    causes = sorted({bad.cause for bad in rejected})
    return ", ".join(f"{cause}: {sum(bad.cause == cause for bad in rejected)}" for cause in causes)


def _encode_sample(
    source: Source,
    pixels: NDArray[np.uint8] | WdsBoneError,
    image: ImageFormat,
    rejected: list[RejectedSample],
    max_bad: int | None,
) -> dict[str, object] | None:
    """Return the members of a sample as bytes, or None if its image is bad and may be left out."""
    if isinstance(pixels, WdsBoneError):
        if max_bad is None or not isinstance(pixels, ImageError):
            raise pixels
        rejected.append(RejectedSample(source.label.key, "bad image", _problem_without_folder(pixels, source)))
        check_bad_budget(rejected, max_bad)
        return None
    assert image.encoding is not None
    return {
        "__key__": source.label.key,
        "json": json.dumps(sample_fields(source), sort_keys=True).encode(),
        image.encoding: encode_image(pixels, image.encoding, quality=image.quality),
    }


def _problem_without_folder(error: WdsBoneError, source: Source) -> str:
    """Return the text of the problem without the folder of the film, so that it is the same on every machine."""
    problem = f"{error.problem}: {error.got}"
    return problem if isinstance(source.image, Hand) else problem.replace(str(source.image), source.image.name)
