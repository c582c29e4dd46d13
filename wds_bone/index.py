"""Write the indexes and the manifest of existing shards: `wds-bone index PATH...`.

In: tars in one folder, or below one prefix in object storage, for example from plain webdataset.
Out: `<shard>.index.npy` and `<shard>.idx` for every shard, and finally `manifest.json`.
Invariant: shards are read completely and never changed; a set from `wds-bone make-shards` keeps its manifest.
"""

if __name__ == "__main__":
    from wds_bone.__main__ import start

    start("index")

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from wds_bone.command_line import parse_config, run_command
from wds_bone.commands import INDEX
from wds_bone.config import check_bounds, option
from wds_bone.errors import ConfigError, ShardError
from wds_bone.paths import ShardsText
from wds_bone.progress import BYTES, progress
from wds_bone.sharding.overview import format_counts
from wds_bone.sharding.settings import MAX_SIDE_PIXELS, MIN_SIDE_PIXELS
from wds_bone.shards.foreign import DescribedShard, describe_set, describe_shard, describes_same_shards, refuse_names
from wds_bone.shards.groups import adopt_groups
from wds_bone.shards.manifest import (
    MANIFEST_NAME,
    Manifest,
    has_parts,
    is_unfinished,
    read_manifest,
    unfinished_error,
    write_manifest,
)
from wds_bone.shards.scan import describe_ignored, scan_shard
from wds_bone.storage.durable import write_bytes_atomically
from wds_bone.storage.folders import refuse_unusable_prefix
from wds_bone.storage.location import (
    Location,
    exists,
    for_each,
    is_file,
    is_folder,
    list_tars,
    parse_location,
    size_of_file,
)
from wds_bone.stream.locate import expand_shards, tars_in


@dataclass(frozen=True)
class IndexConfig:
    """The settings of the index command."""

    paths: tuple[ShardsText, ...] = option(
        "folder of shards, or prefix in object storage, or all shards in it; what does not exist is a brace pattern or "
        "a glob",
        positional=True,
        metavar="PATH",
    )
    letterbox: int | None = option(
        "height and width in pixels to which images of mixed sizes are letterboxed on reading (default: refuse them)",
        default=None,
        metavar="PIXELS",
        min=MIN_SIDE_PIXELS,
        max=MAX_SIDE_PIXELS,
    )

    def __post_init__(self) -> None:
        check_bounds(self)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 for success, 2 for a user error."""
    parse = partial(parse_config, IndexConfig, argv, INDEX)
    return run_command(INDEX, parse=parse, run=lambda config, _: _index(config))


def _index(config: IndexConfig) -> None:
    ignored = Counter[str]()
    manifest = index_shards(config.paths, letterbox=config.letterbox, ignored=ignored)
    print(format_counts(manifest), *describe_ignored(ignored), sep="\n")  # noqa: T201


def index_shards(
    names: Sequence[str], *, letterbox: int | None = None, ignored: Counter[str] | None = None
) -> Manifest:
    """Write the sidecars and the manifest for the shards that `names` match, and return the manifest.

    Args:
        names: shards of one folder, or the folder; a path that exists means itself, anything else is a pattern.
        letterbox: height and width in pixels to letterbox images of mixed sizes to when they are read.
        ignored: counts the members that are neither image nor label, by extension.

    Raises:
        ConfigError: if there are no shards, or if they are in several folders.
        ShardError: if a shard is invalid, sizes are mixed without `letterbox`, or shards do not match their manifest.
        LabelError: if a label in a shard is invalid or the ages look like years.
        ImageError: if an image in a shard is empty or too large.
    """
    paths = _find_shards(names)
    folder = paths[0].parent
    existing = _read_existing_manifest(folder, paths)
    # Only `wds-bone make-shards` records a plan.
    has_plan = existing is not None and any(split.plan for split in existing.splits.values())
    if has_plan and letterbox is not None:
        raise ConfigError(
            f"{folder}: --letterbox cannot change a set that `wds-bone make-shards` wrote",
            do=f"run make-shards again with --size {letterbox} --replace",
        )
    shards = _describe_shards(paths)
    if ignored is not None:
        ignored.update(sum((Counter(shard.ignored) for shard in shards), Counter[str]()))
    manifest = describe_set(shards, letterbox=letterbox, where=str(folder))
    if existing is not None and has_plan and not describes_same_shards(manifest, existing):
        raise ShardError(
            f"{folder / MANIFEST_NAME}: was written by `wds-bone make-shards` and does not match these shards",
            expected="the original shards",
            got="different contents; `wds-bone verify` lists the differences",
            do="fetch or rebuild the set, or delete its manifest.json to keep these shards",
        )
    written = existing if existing is not None and has_plan else adopt_groups(folder, manifest)
    for shard in shards:
        for name, contents in shard.sidecars.items():
            write_bytes_atomically(folder / name, contents)
    if written is not existing:
        write_manifest(folder, written)
    return written


def _find_shards(names: Sequence[str]) -> list[Location]:
    paths = list(dict.fromkeys(path for name in names for path in _tars_of(name)))
    missing = [path for path, is_there in zip(paths, for_each(is_file, paths), strict=True) if not is_there]
    if missing:
        got = f"{missing[0]} is not a file"
        raise ConfigError(f"{', '.join(names)}: no shards found", expected=".tar files", got=got, do="check the path")
    if not paths:
        problem = f"{', '.join(names)}: the manifest is there, but none of its shards"
        raise ShardError(problem, expected="at least one .tar", got="none", do="fetch the shards again")
    folders = sorted({str(path.parent) for path in paths})
    if len(folders) > 1:
        raise ConfigError(
            "the shards are in several folders",
            expected="one folder",
            got=", ".join(folders),
            do="index one folder at a time",
        )
    refuse_names((path.name for path in paths), folders[0])
    return paths


def _tars_of(name: str) -> list[Location]:
    path = parse_location(name)
    folder = path if is_folder(path) else path.parent
    refuse_unusable_prefix(folder, do="copy the shards to a local disk, and index them there")
    if folder != path:
        return expand_shards(name)
    return list_tars(path) if exists(path / MANIFEST_NAME) else tars_in(path)


def _read_existing_manifest(folder: Location, paths: Sequence[Location]) -> Manifest | None:
    if is_unfinished(folder) or has_parts(folder):
        raise unfinished_error(folder)
    if not exists(folder / MANIFEST_NAME):
        return None
    existing = read_manifest(folder / MANIFEST_NAME)
    given = {path.name for path in paths}
    omitted = sorted({shard.name for split in existing.splits.values() for shard in split.shards} - given)
    if omitted:
        raise ShardError(
            f"{folder / MANIFEST_NAME}: lists shards that would not be indexed",
            expected="all shards of the set",
            got=f"all but {omitted[0]}" + (f" and {len(omitted) - 1} more" if len(omitted) > 1 else ""),
            do="pass the folder instead, or delete its manifest.json to make a smaller set",
        )
    return existing


def _describe_shards(paths: Sequence[Location]) -> list[DescribedShard]:
    sizes = [num_bytes or 0 for num_bytes in for_each(size_of_file, paths)]
    shards = []
    with progress(sum(sizes), BYTES, label="indexing") as show:
        show(done := 0)
        for path, num_bytes in zip(paths, sizes, strict=True):
            shards.append(describe_shard(scan_shard(path)))
            show(done := done + num_bytes)
    return shards
