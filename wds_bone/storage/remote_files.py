"""Find and read the files of a set in object storage.

In: URLs.
Out: their contents, or those below a prefix.
Invariant: errors are those of local files: `OSError`s about one file, `ShardError`s about a prefix. A whole file in
memory has at most `MAX_FILE_BYTES`.
"""

from fnmatch import fnmatchcase
from typing import BinaryIO
from urllib.parse import unquote

from wds_bone.errors import ConfigError, ShardError
from wds_bone.objects.clients import client_of
from wds_bone.objects.url import Url, parse_url
from wds_bone.redaction import redact
from wds_bone.storage.patterns import expand_braces, no_match_error

MAX_FILE_BYTES = 2**30
_CHECK = "check the URL and the credentials"


def expand_url(text: str) -> list[Url]:
    """Return the URLs that the braces, and the globs in the last part, of a URL mean.

    The query begins at the first `?`. A `*`, `[` or `{` that is no pattern is written with percent escapes.

    Raises:
        ConfigError: as for paths.
    """
    shown = repr(redact(text))
    location, separator, query = text.partition("?")
    names = expand_braces(location, shown=shown) if set("{}") & set(location) else [location]
    return [url for name in names for url in _glob(name, separator + query, shown)]


def exists(url: Url) -> bool:
    """Return whether there is an object at this URL, or raise `ShardError`."""
    return size_of_file(url) is not None


def size_of_file(url: Url) -> int | None:
    """Return the size of an object, or None if there is none at this URL.

    Raises:
        ShardError: if it cannot be found out.
    """
    try:
        return file_bytes(url)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ShardError(f"{url}: cannot be read: {error.strerror}", do=_CHECK) from error


def list_files(prefix: Url) -> list[Url]:
    """Return the objects directly below a prefix, sorted by name, except names that begin with a dot.

    Raises:
        ShardError: if they cannot be listed.
    """
    try:
        return [prefix / name for name in client_of(prefix).names(prefix) if not name.startswith(".")]
    except OSError as error:
        do = f"{_CHECK}, or name its manifest.json, or the shards themselves, with a brace pattern"
        raise ShardError(f"{prefix}: cannot be listed: {error.strerror}", do=do) from error


def file_bytes(url: Url) -> int:
    """Return the size of an object, or raise `OSError`."""
    return client_of(url).version(url).num_bytes


def read_file(url: Url, *, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """Return a whole object, or raise `OSError`, also if it is larger than `max_bytes`."""
    return client_of(url).read_all(url, max_bytes=max_bytes)


def count_repetition(url: Url) -> None:
    """Count a request that is repeated because of what its answer contained."""
    client_of(url).traffic.add(retries=1)


def read_range(url: Url, offset: int, size: int) -> bytes:
    """Return bytes of an object, or raise `OSError`."""
    return client_of(url).read(url, offset, size)


def sizes_below(prefix: Url) -> dict[Url, int]:
    """Return the sizes of the objects below a prefix, at any depth, or raise `OSError`."""
    return {prefix / name: size for name, size in client_of(prefix).sizes(prefix).items()}


def write_file(url: Url, contents: bytes | BinaryIO) -> None:
    """Write bytes or a file as an object, or raise `OSError`."""
    client_of(url).write(url, contents)


def open_file(url: Url) -> BinaryIO:
    """Open an object for reading, or raise `OSError`."""
    client_of(url).version(url)
    return client_of(url).open(url)


def _glob(text: str, query: str, shown: str) -> list[Url]:
    start, _, pattern = text.rpartition("/")
    if not set("*[") & set(text):
        return [parse_url(text + query)]
    if set("*[") & set(start):
        problem = f"{shown}: has a glob before its last part"
        raise ConfigError(problem, expected="one after the last slash", do="use braces, or several URLs")
    folder, pattern = parse_url(start + query), unquote(pattern)
    found = [url for url in list_files(folder) if fnmatchcase(url.name, pattern)]
    if not found:
        raise no_match_error(pattern, folder=folder, shown=shown)
    return found
