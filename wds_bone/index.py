"""Write index and manifest for shards that others wrote: `python -m wds_bone.index PATH...`.

In: tars of plain webdataset or DALI's script, in one folder. Out: `<shard>.index.npy`, `<shard>.idx` and, last,
`manifest.json`. Invariant: every shard is read whole and strictly, none is changed, and a set that make_shards wrote
keeps its manifest.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wds_bone.config import option, parse_config, run_command
from wds_bone.errors import ConfigError, ShardError
from wds_bone.progress import BYTES, progress
from wds_bone.sharding.overview import format_counts
from wds_bone.sharding.settings import MAX_SIDE_PIXELS, MIN_SIDE_PIXELS, is_side
from wds_bone.shards.foreign import DescribedShard, describe_set, describe_shard, is_same_set
from wds_bone.shards.manifest import MANIFEST_NAME, STAGING_NAME, Manifest, read_manifest, write_manifest
from wds_bone.shards.scan import scan_shard
from wds_bone.storage.durable import publish_bytes
from wds_bone.storage.location import expand, local_path


@dataclass(frozen=True)
class IndexConfig:
    """The settings of the index command."""

    paths: tuple[str, ...] = option("all shards of a set (brace patterns, globs), or their folder", positional=True)
    letterbox: int | None = option(
        "images of mixed sizes shall be letterboxed to this height and width when they are read",
        default=None,
        metavar="SIZE",
    )

    def __post_init__(self) -> None:
        if self.letterbox is not None and not is_side(self.letterbox):
            expected = f"{MIN_SIDE_PIXELS} to {MAX_SIDE_PIXELS} pixels"
            raise ConfigError("--letterbox", expected=expected, got=self.letterbox, do="give another size")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 for an error the user can mend."""

    def command() -> None:
        description = "Write index and manifest for shards that others wrote."
        config = parse_config(IndexConfig, argv, prog="python -m wds_bone.index", description=description)
        print(format_counts(index_shards(config.paths, letterbox=config.letterbox)))  # noqa: T201

    return run_command(command)


def index_shards(names: Sequence[str], *, letterbox: int | None = None) -> Manifest:
    """Write the sidecars and the manifest of the shards that `names` name, and return the manifest.

    Raises:
        ConfigError: no shards, or shards of several folders.
        ShardError: a shard is not one, mixed sizes without `letterbox`, or a set that these shards are not.
        LabelError: a label in a shard is not understood, or the ages look like years.
        ImageError: an image in a shard is too large.
    """
    paths = _find_shards(names)
    folder = paths[0].parent
    old = _read_old(folder, paths)
    shards = _describe_shards(paths)
    manifest = describe_set(shards, letterbox=letterbox, where=str(folder))
    was_made = old is not None and any(split.plan for split in old.splits.values())
    if old is not None and was_made and not is_same_set(manifest, old):
        raise ShardError(
            f"{folder / MANIFEST_NAME}: was written by make_shards and does not describe these shards",
            expected="the shards as they were written",
            got="other contents; `python -m wds_bone.verify` shows where",
            do="fetch or build the set again; or remove its manifest.json, if the shards are what you want",
        )
    for shard in shards:
        for name, contents in shard.sidecars.items():
            publish_bytes(folder / name, contents)
    if old is not None and was_made:
        return old
    write_manifest(folder, manifest)
    return manifest


def _find_shards(names: Sequence[str]) -> list[Path]:
    paths: list[Path] = []
    for name in names:
        path = local_path(name)
        paths += sorted(path.glob("*.tar")) if path.is_dir() else expand(name)
    missing = [path for path in paths if not path.is_file()]
    if missing or not paths:
        got = f"{missing[0]} is no file" if missing else "no .tar"
        raise ConfigError(f"no shards in {', '.join(names)}", expected="tars", got=got, do="check the path")
    folders = sorted({str(path.parent) for path in paths})
    if len(folders) > 1:
        raise ConfigError("one set lies in one folder", got=", ".join(folders), do="index one folder after the other")
    return list(dict.fromkeys(paths))


def _read_old(folder: Path, paths: Sequence[Path]) -> Manifest | None:
    if (folder / STAGING_NAME).exists():
        raise ShardError(f"{folder}: make_shards has not finished here", do="run the same make_shards again")
    if not (folder / MANIFEST_NAME).exists():
        return None
    old = read_manifest(folder / MANIFEST_NAME)
    named = {path.name for path in paths}
    left_out = sorted({shard.name for split in old.splits.values() for shard in split.shards} - named)
    if left_out:
        raise ShardError(
            f"{folder / MANIFEST_NAME}: names shards that are not among those to be indexed",
            expected="all shards of the set",
            got=f"without {left_out[0]}" + (f" and {len(left_out) - 1} more" if len(left_out) > 1 else ""),
            do="name the folder; or remove its manifest.json, if it shall be a smaller set",
        )
    return old


def _describe_shards(paths: Sequence[Path]) -> list[DescribedShard]:
    shards, done = [], 0
    with progress(sum(path.stat().st_size for path in paths), BYTES, label="indexing") as show:
        for path in paths:
            shards.append(describe_shard(scan_shard(path)))
            show(done := done + path.stat().st_size)
    return shards


if __name__ == "__main__":
    sys.exit(main())
