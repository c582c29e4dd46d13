"""Write one shard: its tar, its sidecars, and last the record that says that it is finished.

In: the plan of a shard and a folder. Out: a `ShardRecord`, also as a file. Invariant: the record exists only when all
that it speaks of is on the disk, and the bytes are a function of the plan alone.
"""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from wds_bone.errors import ImageError, WdsBoneError
from wds_bone.labels.read import Rejected
from wds_bone.sharding.plan import ShardPlan
from wds_bone.sharding.sources import Source, read_source, sample_facts
from wds_bone.shards.encoding import encode_image
from wds_bone.shards.manifest import ImageFormat, ShardEntry
from wds_bone.shards.scan import scan_shard
from wds_bone.shards.sidecars import write_sidecars
from wds_bone.storage.durable import publish, publish_bytes, read_published

_WRITE_ANEW = "delete this file and run the command again: the shard is written anew"


@dataclass(frozen=True)
class ShardRecord:
    """A finished shard: its entry of the manifest, and the samples that were left out of it."""

    entry: ShardEntry
    rejected: tuple[Rejected, ...]


def write_shard(
    shard: ShardPlan, folder: Path, image: ImageFormat, *, max_bad: int | None, count: Callable[[int], None]
) -> ShardRecord:
    """Write `shard` into `folder` and return its record; memory is one sample and the shard's table.

    Args:
        shard: its name and sources.
        folder: where its files go.
        image: the format of its images.
        max_bad: how many bad images may be left out; None makes the first one an error.
        count: is told the number of samples that are done, after each.

    Raises:
        ImageError: a film that cannot be read, or too many of them.
        WdsBoneError: the disk refuses.
    """
    rejected: list[Rejected] = []

    def write(stream: BinaryIO) -> None:
        # Imported late, because it imports torch, which a command line should not wait for.
        from webdataset import TarWriter

        with TarWriter(stream, mtime=0) as tar:
            for number, source in enumerate(shard.sources, start=1):
                if (sample := _make_sample(source, image, rejected, max_bad)) is not None:
                    tar.write(sample)
                count(number)

    publish(folder / shard.name, write)
    entry = write_sidecars(folder, scan_shard(folder / shard.name))
    record = ShardRecord(entry, tuple(rejected))
    publish_bytes(record_path(folder, shard.name), json.dumps(dataclasses.asdict(record)).encode())
    return record


def read_record(folder: Path, shard_name: str) -> ShardRecord | None:
    """Return the record of a shard in `folder`, or None while the shard is not finished.

    Raises:
        ShardError: the record is damaged.
    """
    path = record_path(folder, shard_name)
    return read_published(path, _parse_record, do=_WRITE_ANEW) if path.exists() else None


def _parse_record(contents: bytes) -> ShardRecord:
    record = json.loads(contents)
    return ShardRecord(ShardEntry(**record["entry"]), tuple(Rejected(**bad) for bad in record["rejected"]))


def record_path(folder: Path, shard_name: str) -> Path:
    """Return where the record of a shard lies."""
    return folder / (shard_name.removesuffix(".tar") + ".json")


def check_budget(rejected: list[Rejected], max_bad: int | None) -> None:
    """Refuse more than `max_bad` rejected samples (None: more than none).

    Raises:
        ImageError: names the counts and the last one.
    """
    if len(rejected) > (max_bad or 0):
        raise ImageError(
            f"too many bad samples, the last one is '{rejected[-1].key}': {rejected[-1].problem}",
            expected=f"at most {max_bad or 0}",
            got=f"{len(rejected)}: {count_causes(rejected)}",
            do="mend them, or allow more with --on-bad skip --max-bad N",
        )


def count_causes(rejected: list[Rejected]) -> str:
    """Return the rejected samples counted by cause, as words."""
    causes = sorted({bad.cause for bad in rejected})
    return ", ".join(f"{sum(bad.cause == cause for bad in rejected)} {cause}" for cause in causes)


def _make_sample(
    source: Source, image: ImageFormat, rejected: list[Rejected], max_bad: int | None
) -> dict[str, object] | None:
    """Return the members of a sample as bytes, or None for a bad image that may be left out."""
    try:
        pixels = read_source(source, image)
    except ImageError as error:
        if max_bad is None:
            raise
        rejected.append(Rejected(source.label.key, "bad image", _without_folder(error, source)))
        check_budget(rejected, max_bad)
        return None
    assert image.encoding is not None
    return {
        "__key__": source.label.key,
        "json": json.dumps(sample_facts(source), sort_keys=True).encode(),
        image.encoding: encode_image(pixels, image.encoding, quality=image.quality),
    }


def _without_folder(error: WdsBoneError, source: Source) -> str:
    """Return the problem in words that are the same wherever the films lie."""
    problem = f"{error.problem}: {error.got}"
    return problem.replace(str(source.image), source.image.name) if isinstance(source.image, Path) else problem
