"""Define what a client of an object store can do, and the errors that all clients raise.

In: URLs, byte ranges.
Out: bytes, sizes, versions.
Invariant: every method returns within its deadline, in which it has retried what may pass; `strerror` of every error is
a finished phrase without secrets.
"""

import errno
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol, Self

from wds_bone.objects.url import Url


class RemoteError(OSError):
    """A request that failed for good, for another reason than a missing object or missing rights."""

    def __init__(self, problem: str) -> None:
        super().__init__(errno.EIO, problem)


class ChangedError(RemoteError):
    """An object was replaced since it was first read."""


class TooLargeError(RemoteError):
    """An object is larger than its reader expects."""


@dataclass(frozen=True)
class Version:
    """The size of an object and what tells it from another one at the same URL.

    Attributes:
        num_bytes: the size.
        tag: the strong ETag, or else the time of the last change; None if the store states neither.
    """

    num_bytes: int
    tag: str | None


@dataclass(frozen=True)
class Transfer:
    """What a stream has moved over the network in this process, including the manifest and indexes of its shards.

    Attributes:
        bytes_fetched: bytes of bodies that arrived, also those of requests that were cut.
        cache_hits: samples that were read from the cache.
        retries: requests that were repeated.
        waited_seconds: how long threads that decode waited for bytes, added up.
    """

    bytes_fetched: int = 0
    cache_hits: int = 0
    retries: int = 0
    waited_seconds: float = 0.0

    def __add__(self, other: Self) -> Self:
        return type(self)(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    def __sub__(self, other: Self) -> Self:
        return type(self)(*(getattr(self, name) - getattr(other, name) for name in self.__dataclass_fields__))


class Traffic:
    """Counts what a client moves. Thread-safe."""

    def __init__(self) -> None:
        self.bytes_fetched = self.retries = 0
        self._lock = threading.Lock()

    def add(self, *, num_bytes: int = 0, retries: int = 0) -> None:
        """Add bytes of bodies that arrived, or requests that are repeated."""
        with self._lock:
            self.bytes_fetched += num_bytes
            self.retries += retries


class Objects(Protocol):
    """Reads and writes the objects of one store. Thread-safe; not to be used after a fork.

    Attributes:
        traffic: what this client has moved.
    """

    traffic: Traffic

    def version(self, url: Url) -> Version:
        """Return the size and version of an object, or raise `FileNotFoundError`, `PermissionError`, `RemoteError`."""

    def read(self, url: Url, offset: int, size: int, *, version: Version | None = None) -> bytes:
        """Return exactly `size` bytes of an object, or raise; `ChangedError` if it is no longer that version."""

    def read_all(self, url: Url, *, max_bytes: int) -> bytes:
        """Return a whole object, or raise; `RemoteError` if it is larger than `max_bytes`."""

    def open(self, url: Url) -> BinaryIO:
        """Return a file that reads an object from its start, in order, in bounded memory; raises at once, or later."""

    def names(self, prefix: Url) -> Sequence[str]:
        """Return the names of the objects directly below a prefix, sorted; `RemoteError` if the store has no lists."""

    def sizes(self, prefix: Url) -> Mapping[str, int]:
        """Return the sizes of the objects below a prefix, at any depth, by the rest of their paths, sorted."""

    def write(self, url: Url, contents: bytes | BinaryIO, *, only_if_absent: bool = False) -> None:
        """Write bytes, or a file from its start, as an object, at once, or raise.

        It is a `FileExistsError` if the object must be absent and is not.
        """

    def copy(self, source: Url, target: Url) -> None:
        """Copy an object within its bucket, at once, without fetching it, or raise."""

    def delete(self, url: Url) -> None:
        """Delete an object; one that is missing is no error."""

    def close(self) -> None:
        """Give up all connections; calls in progress raise `RemoteError` soon, and so does every later call."""
