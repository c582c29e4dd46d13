"""A client that reads a folder as if it were object storage, and can be told to fail, to wait or to return nonsense."""

import threading
from collections.abc import Callable
from pathlib import Path

from wds_bone.objects.protocol import RemoteError, Traffic, Version
from wds_bone.objects.url import Url

Change = Callable[[int, bytes], bytes]


def unchanged(_offset: int, contents: bytes) -> bytes:
    """Return the contents as they are."""
    return contents


class FolderObjects:
    """The files of a folder, which are only read; the last part of a URL is the name of the file.

    Attributes:
        traffic: what was read.
        reads: url, offset and size of each read.
        gate: reads wait until it is set.
        error: if set, reads raise it.
        change: changes what a read returns, given its offset.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self.traffic, self.reads = folder, Traffic(), list[tuple[str, int, int]]()
        self.gate, self._closed = threading.Event(), threading.Event()
        self.error: Exception | None = None
        self.change: Change = unchanged
        self.gate.set()

    def version(self, url: Url) -> Version:
        return Version((self._folder / url.name).stat().st_size, None)

    def read(self, url: Url, offset: int, size: int, *, version: Version | None = None) -> bytes:
        self.reads.append((url.name, offset, size))
        while not self.gate.wait(0.01):
            if self._closed.is_set():
                raise RemoteError("the connection was closed")
        if self.error is not None:
            raise self.error
        with (self._folder / url.name).open("rb") as file:
            file.seek(offset)
            contents = file.read(size)
        assert len(contents) == size
        self.traffic.add(num_bytes=size)
        return self.change(offset, contents)

    def close(self) -> None:
        self._closed.set()
