"""Where the files of a set are, and how to read them; sets are streamed, verified and indexed only through this module.

In: what a user types: a path, a `file://` URL, a brace pattern, a glob.
Out: `Location`s, and their contents.
Invariant: a path that exists always means itself, whatever characters are in its name; patterns apply only to what does
not exist, and never to a `Path` object. The schemes are an allow-list, so that nothing in a name can run a program.
Only regular files are opened.

A location is a path today; callers use only its `name`, `parent`, `/`, `str()`, order and hash, and expect `OSError`
from the functions below. To support another scheme, let `paths.refuse_url` pass it for settings that name shards, let
`parse_location` return an object for it, let the functions below read that object, and let `open_storage` choose the
class that reads its byte ranges, as `local.py` does for paths. Nothing else changes: other modules treat a location as
opaque.
"""

import os
import re
from collections.abc import Sequence
from itertools import islice
from math import prod
from pathlib import Path
from typing import BinaryIO, Protocol

from braceexpand import braceexpand

from wds_bone.errors import ConfigError, ShardError
from wds_bone.paths import refuse_url, strip_scheme
from wds_bone.storage.local import LocalStorage, WritableBuffer, open_regular

Location = Path
MAX_LOCATIONS = 1_000_000
_MAGIC = set("*?[{}")
_GROUP = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)(?:\.\.-?(\d+))?")
_NUM_LETTERS = 26


class Storage(Protocol):
    """Reads byte ranges of the shards at a sequence of locations. Thread-safe."""

    def read(self, shard: int, offset: int, *, size: int, into: Sequence[WritableBuffer]) -> None:
        """Fill the buffers `into` in order, `size` bytes in total, or raise `ShardError`."""

    def prefetch(self, shard: int, offset: int, size: int) -> None:
        """Announce a read; never raises an error."""

    def close(self) -> None:
        """Release all resources; reads that begin later raise an error."""


def parse_location(name: str | Path) -> Location:
    """Return the location that `name` means: a path, or a `file://` URL.

    A path that exists means itself. In any other path, `~` is the home folder; in a URL, `%20` is a space.

    Raises:
        ConfigError: if it is a URL of any other scheme, or can be no path.
    """
    if not _can_be_a_path(str(name)):
        got = "a NUL character, or half of a character"
        raise ConfigError(f"{str(name)!r}: is not a path", got=got, do="check the path")
    if isinstance(name, Path) or exists(name):
        return Path(name) if exists(name) else _expand_home(name)
    refuse_url(name)
    if (path := strip_scheme(name)) != name:
        return Path(path)
    missing = _split_at_folder(Path(name))[1]
    if missing.startswith("pipe:") or "::" in missing:
        # Only the scheme is shown: the rest may contain a password or a signature.
        problem = f"{name.partition(':')[0]}:...: is not a local path"
        raise ConfigError(problem, expected="a path, or file://", do="copy the shards to a local disk")
    return _expand_home(name)


def expand(name: str | Path) -> list[Location]:
    """Return the locations that `name` means, in its order: itself, or what its braces and globs match.

    A path that exists means itself, and a `Path` object is never a pattern. Of any other path, the part up to the last
    folder that exists means itself, and the rest is a pattern. As in a shell, globs skip names that begin with a dot.

    Raises:
        ConfigError: if a brace is not closed, the pattern means more than a million locations, or a glob in it matches
            nothing.
    """
    location = parse_location(name)
    if exists(location) or not _MAGIC & set(str(location)):
        return [location]
    if isinstance(name, Path):
        got, do = "no file of this name; a Path object is never a pattern", "pass a string if this is a pattern"
        raise ConfigError(f"no shards in {str(name)!r}", expected="at least one .tar", got=got, do=do)
    folder, pattern = _split_at_folder(location)
    names = _expand_braces(pattern, name)
    return [path for expanded in names for path in _glob(folder, expanded, name)]


def exists(location: Location | str) -> bool:
    """Return whether there is something, be it a link that leads nowhere."""
    return os.path.lexists(location)  # False for names that no file can have; `Path.exists` raises


def is_file(location: Location) -> bool:
    """Return whether the location is a file."""
    return os.path.isfile(location)  # noqa: PTH113


def is_folder(location: Location) -> bool:
    """Return whether the location is a folder."""
    return os.path.isdir(location)  # noqa: PTH112


def list_files(folder: Location) -> list[Location]:
    """Return everything in a folder, sorted by name, except names that begin with a dot.

    Raises:
        ShardError: if the folder cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise ShardError(f"{folder}: cannot be read: {error.strerror}", do="check the folder's permissions") from error


def list_tars(folder: Location) -> list[Location]:
    """Return the tars in a folder, sorted by name, like the shell's `*.tar`: without names that begin with a dot.

    Raises:
        ShardError: if the folder cannot be read.
    """
    return [path for path in list_files(folder) if path.name.endswith(".tar")]


def identity(location: Location) -> str:
    """Return a name that is the same for all names of one file, for example through links."""
    return str(location.resolve())


def file_bytes(location: Location) -> int:
    """Return the size of a file that can be opened.

    Raises:
        OSError: if it is missing, unreadable, or not a regular file.
    """
    with open_file(location) as file:
        return file.seek(0, 2)


def read_file(location: Location) -> bytes:
    """Return the contents of a file.

    Raises:
        OSError: if it is missing, unreadable, or not a regular file.
    """
    with open_file(location) as file:
        return file.read()


def open_file(location: Location) -> BinaryIO:
    """Open a file for reading.

    Raises:
        OSError: if it is missing, unreadable, or not a regular file.
    """
    return os.fdopen(open_regular(location), "rb")


def open_storage(locations: Sequence[Location]) -> Storage:
    """Return what reads byte ranges of the shards at these locations."""
    return LocalStorage(locations)


def _can_be_a_path(name: str) -> bool:
    try:
        return b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        return False


def _split_at_folder(path: Path) -> tuple[Path, str]:
    """Return the last folder of a path that exists, and what follows it."""
    folder = next((parent for parent in path.parents if exists(parent)), path.parent)
    return folder, str(path.relative_to(folder))


def _expand_home(name: str | Path) -> Location:
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{str(name)!r}: {error}", do="check the path, or write ./ before the ~") from error


def _expand_braces(pattern: str, name: str) -> list[str]:
    try:
        # braceexpand builds a whole range before its first name, so count before expanding.
        num_locations = prod(map(_num_choices, _GROUP.findall(pattern)))
        names = [] if num_locations > MAX_LOCATIONS else list(islice(braceexpand(pattern), MAX_LOCATIONS + 1))
    except ValueError as error:
        problem = f"{name!r}: does not exist, and is not a pattern: {error}"
        raise ConfigError(problem, do="check the path, or close the brace") from error
    if not 0 < len(names) <= MAX_LOCATIONS:
        got = f"{max(num_locations, len(names)):,}"
        expected = f"at most {MAX_LOCATIONS:,}"
        raise ConfigError(f"{name!r}: too many shards", expected=expected, got=got, do="check the range")
    return names


def _num_choices(group: str) -> int:
    """Return how many names the contents of a brace mean."""
    if numbers := _RANGE.fullmatch(group):
        start, stop, step = (int(number or 1) for number in numbers.groups())
        return abs(stop - start) // max(1, step) + 1
    return group.count(",") + 1 if "," in group else _NUM_LETTERS ** (".." in group)


def _glob(folder: Location, pattern: str, name: str) -> list[Location]:
    path = folder / pattern
    if not set("*?[") & set(pattern) or exists(path):
        return [path]
    try:
        found = sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{name!r}: does not exist, and is not a pattern: {error}", do="check the path") from error
    if not found:
        got = f"no file of this name; as a pattern, {pattern!r} matches nothing in {folder}"
        raise ConfigError(f"no shards in {name!r}", expected="at least one .tar", got=got, do="check the path")
    return found
