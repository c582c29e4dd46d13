"""Read an object as a file, mostly from its start to its end, in bounded memory.

In: a download.
Out: a raw file.
Invariant: a cut connection is continued; nothing is read twice, and nothing that was not asked for is kept.
"""

import io
from typing import Any

from wds_bone.objects.retries import Download


class SequentialFile(io.RawIOBase):
    """The bytes of a download to the end of its object."""

    def __init__(self, download: Download) -> None:
        self._download = download

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Continue at another byte, and return its number; a new request begins there."""
        start = self._start_of(whence)
        self._download.seek(start + offset)
        return self._download.position

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, or its beginning, and return the number of bytes; 0 at the end.

        Raises:
            OSError: if they cannot be had.
        """
        found = self._download.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def close(self) -> None:
        """Release the connection."""
        self._download.close()
        super().close()

    def _start_of(self, whence: int) -> int:
        if whence == io.SEEK_END:
            return self._download.version_now().num_bytes
        return self._download.position if whence == io.SEEK_CUR else 0
