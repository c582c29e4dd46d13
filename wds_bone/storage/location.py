"""Where the files of a set are, and how to read them; sets are streamed, verified and indexed only through this module.

In: what a user types: a path, a URL, a brace pattern, a glob.
Out: `Location`s, and their contents.
Invariant: a path that exists always means itself, whatever characters are in its name; patterns apply only to what does
not exist, and never to a `Path` object. The schemes are an allow-list, so that nothing in a name can run a program.
Only regular files are opened.

A location is a `Path`, or a `Url` in object storage; other modules treat it as opaque. They use only its `name`,
`parent`, `/`, `str()`, order and hash, and expect the same errors of both. To support another scheme, add it to
`url.SCHEMES` and its client to `clients.py`.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from wds_bone.errors import ConfigError, ShardError
from wds_bone.objects.protocol import Transfer
from wds_bone.objects.url import Url, is_url, parse_url
from wds_bone.paths import strip_scheme
from wds_bone.storage import remote_files
from wds_bone.storage.local import WritableBuffer, open_regular
from wds_bone.storage.patterns import expand_path_pattern, split_at_folder

Location = Path | Url
MANIFEST_NAME = "manifest.json"
NUM_AT_ONCE = 32
_MAGIC = set("*?[{}")
Value = TypeVar("Value")


class Storage(Protocol):
    """Reads byte ranges of the shards at a sequence of locations. Thread-safe.

    Attributes:
        batches_ahead: how many batches whoever reads should announce ahead.
        stall_seconds: how long a read may take.
        stall_remedy: what to check if one takes longer.
    """

    batches_ahead: int
    stall_seconds: float
    stall_remedy: str

    def read(self, shard: int, offset: int, *, size: int, into: Sequence[WritableBuffer]) -> None:
        """Fill the buffers `into` in order, `size` bytes in total, or raise `ShardError`."""

    def prefetch(self, shard: int, offset: int, size: int) -> None:
        """Announce a read; never raises an error."""

    def forget(self, shard: int, offset: int, size: int) -> bool:
        """Drop bytes that failed their checksum; return whether a second read may return others."""

    def counters(self) -> Transfer:
        """Return what has been moved over the network."""

    def close(self) -> None:
        """Release all resources; reads that begin later raise an error."""


def parse_location(name: str | Path) -> Location:
    """Return the location that `name` means: a path, or a URL.

    A path that exists means itself. In any other path, `~` is the home folder; in a URL, `%20` is a space.

    Raises:
        ConfigError: if it is a URL of another scheme than those that can be read, or can be no path.
    """
    if not _can_be_a_path(str(name)):
        got = "a NUL character, or half of a character"
        raise ConfigError(f"{str(name)!r}: is not a path", got=got, do="check the path")
    if isinstance(name, Path) or exists(Path(name)):
        return Path(name) if exists(Path(name)) else _expand_home(name)
    if (path := strip_scheme(name)) != name:
        return Path(path)
    if is_url(name):
        return parse_url(name)
    missing = split_at_folder(Path(name))[1]
    if missing.startswith("pipe:") or "::" in missing:
        # Only the scheme is shown: the rest may contain a password or a signature.
        problem = f"{name.partition(':')[0]}:...: cannot be read"
        raise ConfigError(problem, expected="a path, or a URL", do="copy the shards to a disk or bucket")
    return _expand_home(name)


def expand(name: str | Path) -> list[Location]:
    """Return the locations that `name` means, in its order: itself, or what its braces and globs match.

    A path that exists means itself, and a `Path` object is never a pattern. Of any other path, the part up to the last
    folder that exists means itself, and the rest is a pattern. As in a shell, globs skip names that begin with a dot.
    In a URL, the last part may be a glob if the store can list its objects.

    Raises:
        ConfigError: if a brace is not closed, the pattern means more than a million locations, or a glob in it matches
            nothing.
        ShardError: if the objects that a glob in a URL may match cannot be listed.
    """
    location = parse_location(name)
    if isinstance(location, Url):
        return [*remote_files.expand_url(str(name))]
    if exists(location) or not _MAGIC & set(str(location)):
        return [location]
    if isinstance(name, Path):
        got, do = "no file of this name; a Path object is never a pattern", "pass a string if this is a pattern"
        raise ConfigError(f"no shards in {str(name)!r}", expected="at least one .tar", got=got, do=do)
    return [*expand_path_pattern(location, shown=repr(name))]


def exists(location: Location) -> bool:
    """Return whether there is something, be it a link that leads nowhere; in object storage, an object.

    Raises:
        ShardError: if a URL cannot be asked for.
    """
    if isinstance(location, Url):
        return remote_files.exists(location)
    return os.path.lexists(location)  # False for names that no file can have; `Path.exists` raises


def is_file(location: Location) -> bool:
    """Return whether the location is a file, or an object.

    Raises:
        ShardError: if a URL cannot be asked for.
    """
    return remote_files.exists(location) if isinstance(location, Url) else os.path.isfile(location)  # noqa: PTH113


def is_folder(location: Location) -> bool:
    """Return whether the location is a folder, or has the form of the prefix of a set."""
    if isinstance(location, Url):
        return location.name != MANIFEST_NAME and not location.name.endswith(".tar")
    return os.path.isdir(location)  # noqa: PTH112


def can_list(folder: Location) -> bool:
    """Return whether `list_files` can work: HTTP servers have no lists."""
    return not isinstance(folder, Url) or folder.scheme not in ("http", "https")


def list_files(folder: Location) -> list[Location]:
    """Return everything in a folder, sorted by name, except names that begin with a dot.

    Raises:
        ShardError: if the folder cannot be read.
    """
    if isinstance(folder, Url):
        return [*remote_files.list_files(folder)]
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
    return str(location) if isinstance(location, Url) else str(location.resolve())


def file_bytes(location: Location) -> int:
    """Return the size of a file that can be opened.

    Raises:
        OSError: if it is missing, unreadable, or not a regular file.
    """
    if isinstance(location, Url):
        return remote_files.file_bytes(location)
    with open_file(location) as file:
        return file.seek(0, 2)


def size_of_file(location: Location) -> int | None:
    """Return the size of a file, or of an object; None if there is no such file.

    Raises:
        ShardError: if a URL cannot be asked for.
    """
    if isinstance(location, Url):
        return remote_files.size_of_file(location)
    return location.stat().st_size if location.is_file() else None


def read_file(location: Location) -> bytes:
    """Return the contents of a file.

    Raises:
        OSError: if it is missing, unreadable, or not a regular file.
    """
    if isinstance(location, Url):
        return remote_files.read_file(location)
    with open_file(location) as file:
        return file.read()


def read_verified(location: Location, parse: Callable[[bytes], Value]) -> Value:
    """Return what `parse` makes of the contents of a file that has a digest.

    An object that is refused is fetched once more: a bit may have been flipped on its way.

    Raises:
        OSError: as `read_file` does.
        ShardError: if `parse` refuses it.
    """
    try:
        return parse(read_file(location))
    except ShardError:
        if not isinstance(location, Url):
            raise
    remote_files.count_repetition(location)
    return parse(read_file(location))


def read_range(location: Location, offset: int, size: int) -> bytes:
    """Return `size` bytes of a file, of an object without fetching the rest.

    Raises:
        OSError: if it is missing, unreadable, or not a regular file.
    """
    if isinstance(location, Url):
        return remote_files.read_range(location, offset, size)
    with open_file(location) as file:
        file.seek(offset)
        return file.read(size)


def for_each(function: Callable[[Location], Value], locations: Sequence[Location]) -> list[Value]:
    """Return what a function that reads files returns for each location, in order, or raise its first error.

    URLs are read many at once, because an answer takes time.
    """
    if not any(isinstance(location, Url) for location in locations):
        return [function(location) for location in locations]
    with ThreadPoolExecutor(min(NUM_AT_ONCE, len(locations)), thread_name_prefix="files") as pool:
        return list(pool.map(function, locations))


def open_file(location: Location) -> BinaryIO:
    """Open a file for reading.

    Raises:
        OSError: if it is missing, unreadable, or not a regular file.
    """
    if isinstance(location, Url):
        return remote_files.open_file(location)
    return os.fdopen(open_regular(location), "rb")


def _can_be_a_path(name: str) -> bool:
    try:
        return b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        return False


def _expand_home(name: str | Path) -> Location:
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{str(name)!r}: {error}", do="check the path, or write ./ before the ~") from error
