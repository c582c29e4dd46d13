"""Verify shards, sets and their manifests: `wds-bone verify PATH... [--deep]`.

In: folders, manifests or shards.
Out: a list of problems with their locations, and exit code 0 or 1.
Invariant: every byte of every shard is read; every difference from what was written is found.
"""

if __name__ == "__main__":
    from wds_bone.__main__ import start

    start("verify")

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from wds_bone.command_line import parse_config, run_command
from wds_bone.commands import VERIFY
from wds_bone.config import option, option_of
from wds_bone.errors import ConfigError, WdsBoneError
from wds_bone.paths import ShardsText
from wds_bone.progress import BYTES, progress
from wds_bone.remote.settings import RemoteOptions, check_hosts
from wds_bone.shards.manifest import MANIFEST_NAME, is_unfinished, read_manifest, unfinished_error
from wds_bone.shards.scan import describe_ignored
from wds_bone.shards.verification import Decoder, check_shards
from wds_bone.storage.access import allow_redirects_to
from wds_bone.storage.location import (
    Location,
    can_list,
    exists,
    file_bytes,
    is_file,
    is_folder,
    list_tars,
    parse_location,
)
from wds_bone.stream.locate import expand_shards, tars_in

EXIT_PROBLEMS = 1


@dataclass(frozen=True)
class VerifyConfig:
    """The settings of the verify command."""

    paths: tuple[ShardsText, ...] = option(
        "folders, manifests or shards; what does not exist is a brace pattern or a glob",
        positional=True,
        metavar="PATH",
    )
    deep: bool = option("also decode every image", default=False)
    allow_host: tuple[str, ...] | None = option_of(RemoteOptions, "allow_host")

    def __post_init__(self) -> None:
        check_hosts(self.allow_host)


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


def find_problems(
    paths: Sequence[str], *, deep: bool = False, ignored: Counter[str] | None = None
) -> Iterator[WdsBoneError]:
    """Yield every problem in the folders, manifests and shards at `paths`.

    Args:
        paths: a path that exists means itself, anything else is a pattern.
        deep: also decode every image.
        ignored: counts the members that are neither image nor label, by extension.

    Raises:
        ConfigError: if there are no shards at `paths`.
    """
    targets = [target for name in paths for target in _resolve_path(name)]
    total = sum(_file_bytes(target.folder / name) for target in targets for name in target.names)
    decode = _make_decoder() if deep else None
    with progress(total, BYTES, label="verifying") as show:
        done = 0
        for target in targets:

            def advance(name: str, found: Mapping[str, int], folder: Location = target.folder) -> None:
                nonlocal done
                if ignored is not None:
                    ignored.update(found)
                done += _file_bytes(folder / name)
                show(done)

            yield from _check_target(target, decode, advance)


def _verify(config: VerifyConfig) -> int:
    allow_redirects_to(config.allow_host or ())
    began, num_problems, ignored = time.monotonic(), 0, Counter[str]()
    for problem in find_problems(config.paths, deep=config.deep, ignored=ignored):
        print(f"problem: {problem}")  # noqa: T201
        num_problems += 1
    seconds = time.monotonic() - began
    noun = "problem" if num_problems == 1 else "problems"
    for line in describe_ignored(ignored):
        print(line)  # noqa: T201
    print(f"{num_problems or 'no'} {noun} found in {', '.join(config.paths)} ({seconds:.1f} s)")  # noqa: T201
    return EXIT_PROBLEMS if num_problems else 0


def _resolve_path(name: str) -> list[_Target]:
    path = parse_location(name)
    if path.name == MANIFEST_NAME:
        path = path.parent
        if not is_folder(path):
            raise ConfigError(f"{name}: no such file", expected="a set of shards", got="none", do="check the path")
    if is_folder(path):
        has_parts = exists(path / MANIFEST_NAME) or is_unfinished(path)
        tars = _tars_of_set(path) if has_parts else tars_in(path)
        return [_Target(path, tuple(file.name for file in tars), is_whole_set=True)]
    files = expand_shards(name)
    if not any(is_file(file) for file in files):
        got = f"{files[0]} is not a file" + f", nor is any of {len(files):,}" * (len(files) > 1)
        raise ConfigError(f"{name}: no shards found", expected=".tar files", got=got, do="check the path")
    folders = dict.fromkeys(file.parent for file in files)
    return [_Target(folder, tuple(file.name for file in files if file.parent == folder)) for folder in folders]


def _tars_of_set(folder: Location) -> list[Location]:
    """Return all tars next to a manifest, or those in it if they cannot be listed."""
    if can_list(folder):
        return list_tars(folder)
    splits = read_manifest(folder / MANIFEST_NAME).splits
    return [folder / shard.name for split in splits.values() for shard in split.shards]


def _check_target(
    target: _Target, decode: Decoder | None, on_checked: Callable[[str, Mapping[str, int]], None]
) -> Iterator[WdsBoneError]:
    folder, manifest = target.folder, None
    if exists(folder / MANIFEST_NAME):
        try:
            manifest = read_manifest(folder / MANIFEST_NAME)
        except WdsBoneError as error:
            yield error
    elif is_unfinished(folder):
        yield unfinished_error(folder)
    names = list(target.names)
    if manifest is not None and target.is_whole_set:
        listed = list(manifest.shard_entries)
        names = listed + [name for name in names if name not in manifest.shard_entries]
    yield from check_shards(folder, names, manifest, decode=decode, on_checked=on_checked)


def _make_decoder() -> Decoder:
    # Imported late: it imports torch, which only --deep needs.
    from wds_bone.stream.decode import decode_into

    return decode_into


def _file_bytes(path: Location) -> int:
    try:
        return file_bytes(path)
    except OSError:  # the check of this shard reports it
        return 0
