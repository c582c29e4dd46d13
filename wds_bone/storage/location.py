"""Where the files of a set are, and how to read them; sets are streamed, verified and indexed only through this module.

In: what a user types: a path, a `file://` URL, a brace pattern, a glob.
Out: `Location`s, and their contents.
Invariant: the schemes are an allow-list, so that nothing in a name can run a program.

A location is a path today; callers use only its `name`, `parent`, `/`, `str()`, order and hash, and expect `OSError`
from the functions below. To support another scheme, let `parse_location` return an object for it, let the functions
below read that object, and let `open_storage` choose the class that reads its byte ranges, as `local.py` does for
paths. Nothing else changes: other modules treat a location as opaque.
"""

import re
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import BinaryIO, Protocol

from braceexpand import braceexpand

from wds_bone.errors import ConfigError
from wds_bone.storage.local import LocalStorage, WritableBuffer

Location = Path
MAX_LOCATIONS = 1_000_000
_RANGE = re.compile(r"\{(-?\d+)\.\.(-?\d+)(?:\.\.-?(\d+))?\}")


class Storage(Protocol):
    """Reads byte ranges of the shards at a sequence of locations. Thread-safe."""

    def read(self, shard: int, offset: int, *, size: int, into: Sequence[WritableBuffer]) -> None:
        """Fill the buffers `into` in order, `size` bytes in total, or raise `ShardError`."""

    def prefetch(self, shard: int, offset: int, size: int) -> None:
        """Announce a read; never raises an error."""

    def close(self) -> None:
        """Release all resources; reads that begin later raise an error."""


def parse_location(name: str) -> Location:
    """Return the location that `name`, a path or a `file://` URL, means; in a path, `~` is the home folder.

    Raises:
        ConfigError: if it is a URL of any other scheme.
    """
    scheme, separator, rest = name.partition("://")
    if separator and scheme == "file":
        return Path(rest)
    if separator or name.startswith("pipe:") or "::" in name:
        # Only the scheme is shown: the rest may contain a password or a signature.
        shown = f"{scheme}://" if separator else scheme.partition(":")[0] + ":"
        raise ConfigError(
            f"{shown}...: is not a local path", expected="a path, or file://", do="copy the shards to a local disk"
        )
    return Path(name).expanduser()


def expand(name: str) -> list[Location]:
    """Return the locations that a brace pattern or a glob means, in its order.

    Raises:
        ConfigError: if a brace is not closed, or the numeric ranges mean more than a million locations.
    """
    # braceexpand builds a whole range before its first name, so count before expanding.
    num_locations = prod(
        abs(int(stop) - int(start)) // max(1, int(step or 1)) + 1 for start, stop, step in _RANGE.findall(name)
    )
    if num_locations > MAX_LOCATIONS:
        raise ConfigError(
            f"{name!r}: too many shards",
            expected=f"at most {MAX_LOCATIONS:,}",
            got=f"{num_locations:,}",
            do="check the range",
        )
    parse_location(name)  # refuses a URL before a part of it can appear in another error
    try:
        names = list(braceexpand(name))
    except ValueError as error:
        raise ConfigError(f"{name!r}: {error}", do="close the brace") from error
    return [path for expanded in names for path in _glob(parse_location(expanded))]


def exists(location: Location) -> bool:
    """Return whether there is a file or folder."""
    return location.exists()


def is_file(location: Location) -> bool:
    """Return whether the location is a file."""
    return location.is_file()


def is_folder(location: Location) -> bool:
    """Return whether the location is a folder."""
    return location.is_dir()


def list_tars(folder: Location) -> list[Location]:
    """Return the tars in a folder, sorted by name."""
    return sorted(folder.glob("*.tar"))


def identity(location: Location) -> str:
    """Return a name that is the same for all names of one file, for example through links."""
    return str(location.resolve())


def file_bytes(location: Location) -> int:
    """Return the size of a file that can be opened.

    Raises:
        OSError: if it is missing or unreadable.
    """
    with location.open("rb") as file:
        return file.seek(0, 2)


def read_file(location: Location) -> bytes:
    """Return the contents of a file.

    Raises:
        OSError: if it is missing or unreadable.
    """
    return location.read_bytes()


def open_file(location: Location) -> BinaryIO:
    """Open a file for reading.

    Raises:
        OSError: if it is missing or unreadable.
    """
    return location.open("rb")


def open_storage(locations: Sequence[Location]) -> Storage:
    """Return what reads byte ranges of the shards at these locations."""
    return LocalStorage(locations)


def _glob(path: Location) -> list[Location]:
    if not set("*?[") & set(path.name):
        return [path]
    return sorted(path.parent.glob(path.name))
