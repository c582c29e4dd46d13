"""Check shards, sets and their manifests: `python -m wds_bone.verify PATH... [--deep]`.

In: folders, manifests, shards. Out: a list of what is wrong where, and exit code 0 or 1. Invariant: every byte of every
shard is read; whatever differs from what was written is found.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from wds_bone.config import option, parse_config, run_command
from wds_bone.errors import ConfigError, ShardError, WdsBoneError
from wds_bone.progress import BYTES, progress
from wds_bone.shards.manifest import MANIFEST_NAME, STAGING_NAME, read_manifest
from wds_bone.shards.verification import Decoder, check_shards
from wds_bone.storage.location import expand, local_path

EXIT_FOUND = 1


@dataclass(frozen=True)
class VerifyConfig:
    """The settings of the verify command."""

    paths: tuple[str, ...] = option("folders, manifests, or shards (brace patterns, globs)", positional=True)
    deep: bool = option("decode every image too", default=False)


@dataclass(frozen=True)
class _Target:
    """Shards of one folder that are checked together; `is_whole`: with all that its manifest names."""

    folder: Path
    names: tuple[str, ...]
    is_whole: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 all is well, 1 something is wrong, 2 a wrong call."""
    return run_command(lambda: _verify(argv))


def find_faults(paths: Sequence[str], *, deep: bool = False) -> Iterator[WdsBoneError]:
    """Yield all that is wrong with what `paths` name.

    Raises:
        ConfigError: they name nothing.
    """
    targets = _find_targets(paths)
    total = sum(_file_bytes(target.folder / name) for target in targets for name in target.names)
    decode = _make_decoder() if deep else None
    with progress(total, BYTES, label="verifying") as show:
        done = 0
        for target in targets:

            def advance(name: str, folder: Path = target.folder) -> None:
                nonlocal done
                done += _file_bytes(folder / name)
                show(done)

            yield from _check_target(target, decode, advance)


def _verify(argv: Sequence[str] | None) -> int:
    description = "Check that shards are what was written: structure, counts, checksums, index, label statistics."
    config = parse_config(VerifyConfig, argv, prog="python -m wds_bone.verify", description=description)
    began, num_faults = time.monotonic(), 0
    for fault in find_faults(config.paths, deep=config.deep):
        print(f"wrong: {fault}", flush=True)  # noqa: T201
        num_faults += 1
    seconds = time.monotonic() - began
    print(f"{num_faults or 'nothing'} wrong in {', '.join(config.paths)} ({seconds:.1f} s)")  # noqa: T201
    return EXIT_FOUND if num_faults else 0


def _find_targets(paths: Sequence[str]) -> list[_Target]:
    targets = [target for name in paths for target in _targets_of(name)]
    if not targets:
        raise ConfigError(f"no shards in {', '.join(paths)}", expected="tars", got="none", do="check the path")
    return targets


def _targets_of(name: str) -> list[_Target]:
    path = local_path(name)
    if path.is_dir() or path.name == MANIFEST_NAME:
        folder = path if path.is_dir() else path.parent
        names = {file.name for file in folder.glob("*.tar")}
        if not names and not (folder / MANIFEST_NAME).exists():
            raise ConfigError(f"{name}: no shards", expected="tars or a manifest.json", got="none", do="check the path")
        return [_Target(folder, tuple(sorted(names)), is_whole=True)]
    files = expand(name)
    if not any(file.is_file() for file in files):
        raise ConfigError(f"{name}: no such shards", expected="tars", got="no file", do="check the path")
    folders = dict.fromkeys(file.parent for file in files)
    return [_Target(folder, tuple(file.name for file in files if file.parent == folder)) for folder in folders]


def _check_target(target: _Target, decode: Decoder | None, show: Callable[[str], None]) -> Iterator[WdsBoneError]:
    folder, manifest = target.folder, None
    if (folder / MANIFEST_NAME).exists():
        try:
            manifest = read_manifest(folder / MANIFEST_NAME)
        except WdsBoneError as error:
            yield error
    elif (folder / STAGING_NAME).exists():
        yield ShardError(f"{folder}: make_shards has not finished here", do="run the same make_shards again")
    names = list(target.names)
    if manifest is not None and target.is_whole:
        listed = [shard.name for split in manifest.splits.values() for shard in split.shards]
        names = listed + [name for name in names if name not in listed]
    yield from check_shards(folder, names, manifest, decode=decode, show=show)


def _make_decoder() -> Decoder:
    # Imported late, because it imports torch, which only --deep needs.
    from wds_bone.stream.decode import decode_into

    return decode_into


def _file_bytes(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


if __name__ == "__main__":
    sys.exit(main())
