"""Verify shards, sets and their manifests: `wds-bone verify PATH... [--deep]`.

In: folders, manifests or shards.
Out: a list of problems with their locations, and exit code 0 or 1.
Invariant: every byte of every shard is read; every difference from what was written is found.
"""

if __name__ == "__main__":
    from wds_bone.__main__ import start

    start("verify")

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from wds_bone.command_line import parse_config, run_command
from wds_bone.commands import VERIFY
from wds_bone.config import option
from wds_bone.errors import ConfigError, WdsBoneError
from wds_bone.paths import PathText
from wds_bone.progress import BYTES, progress
from wds_bone.shards.manifest import MANIFEST_NAME, STAGING_NAME, read_manifest, unfinished_error
from wds_bone.shards.verification import Decoder, check_shards
from wds_bone.storage.location import (
    Location,
    exists,
    expand,
    file_bytes,
    is_file,
    is_folder,
    list_tars,
    parse_location,
)

EXIT_PROBLEMS = 1


@dataclass(frozen=True)
class VerifyConfig:
    """The settings of the verify command."""

    paths: tuple[PathText, ...] = option(
        "folders, manifests or shards (brace patterns and globs are expanded)",
        positional=True,
        metavar="PATH",
    )
    deep: bool = option("also decode every image", default=False)


@dataclass(frozen=True)
class _Target:
    """Shards of one folder that are checked together; `is_whole_set` adds all shards of its manifest."""

    folder: Location
    names: tuple[str, ...]
    is_whole_set: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 for no problems, 1 for problems, 2 for a usage error."""
    parse = partial(parse_config, VerifyConfig, argv, VERIFY)
    return run_command(VERIFY, parse=parse, run=lambda config, _: _verify(config))


def find_problems(paths: Sequence[str], *, deep: bool = False) -> Iterator[WdsBoneError]:
    """Yield every problem in the folders, manifests and shards at `paths`.

    Raises:
        ConfigError: if there are no shards at `paths`.
    """
    targets = [target for name in paths for target in _resolve_path(name)]
    total = sum(_file_bytes(target.folder / name) for target in targets for name in target.names)
    decode = _make_decoder() if deep else None
    with progress(total, BYTES, label="verifying") as show:
        done = 0
        for target in targets:

            def advance(name: str, folder: Location = target.folder) -> None:
                nonlocal done
                done += _file_bytes(folder / name)
                show(done)

            yield from _check_target(target, decode, advance)


def _verify(config: VerifyConfig) -> int:
    began, num_problems = time.monotonic(), 0
    for problem in find_problems(config.paths, deep=config.deep):
        print(f"problem: {problem}")  # noqa: T201
        num_problems += 1
    seconds = time.monotonic() - began
    noun = "problem" if num_problems == 1 else "problems"
    print(f"{num_problems or 'no'} {noun} found in {', '.join(config.paths)} ({seconds:.1f} s)")  # noqa: T201
    return EXIT_PROBLEMS if num_problems else 0


def _resolve_path(name: str) -> list[_Target]:
    path = parse_location(name)
    if is_folder(path) or path.name == MANIFEST_NAME:
        folder = path if is_folder(path) else path.parent
        names = {file.name for file in list_tars(folder)}
        if not names and not exists(folder / MANIFEST_NAME):
            raise ConfigError(
                f"{name}: no shards found", expected=".tar files or a manifest.json", got="none", do="check the path"
            )
        return [_Target(folder, tuple(sorted(names)), is_whole_set=True)]
    files = expand(name)
    if not any(is_file(file) for file in files):
        raise ConfigError(f"{name}: no shards found", expected=".tar files", got="none", do="check the path")
    folders = dict.fromkeys(file.parent for file in files)
    return [_Target(folder, tuple(file.name for file in files if file.parent == folder)) for folder in folders]


def _check_target(target: _Target, decode: Decoder | None, on_checked: Callable[[str], None]) -> Iterator[WdsBoneError]:
    folder, manifest = target.folder, None
    if exists(folder / MANIFEST_NAME):
        try:
            manifest = read_manifest(folder / MANIFEST_NAME)
        except WdsBoneError as error:
            yield error
    elif exists(folder / STAGING_NAME):
        yield unfinished_error(folder)
    names = list(target.names)
    if manifest is not None and target.is_whole_set:
        listed = [shard.name for split in manifest.splits.values() for shard in split.shards]
        names = listed + [name for name in names if name not in listed]
    yield from check_shards(folder, names, manifest, decode=decode, on_checked=on_checked)


def _make_decoder() -> Decoder:
    # Imported late: it imports torch, which only --deep needs.
    from wds_bone.stream.decode import decode_into

    return decode_into


def _file_bytes(path: Location) -> int:
    return file_bytes(path) if is_file(path) else 0
