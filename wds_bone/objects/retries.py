"""Repeat requests that failed in a way that may pass, with back-off and jitter, inside a deadline.

In: what went wrong.
Out: a wait, or the error that ends the call.
Invariant: no call lasts longer than `TIMEOUT_SECONDS` without progress; every repetition is counted.
"""

import random
import threading
import time
from typing import Protocol

from wds_bone.objects.protocol import RemoteError, TooLargeError, Traffic, Version

TIMEOUT_SECONDS = 120.0
"""How long a call continues without progress. Tests make it shorter."""
FIRST_TIMEOUT_SECONDS = 20.0
"""The same for a server that has never answered."""
PROGRESS_BYTES = 4096
"""How many bytes must have arrived to count as progress; a server that sends a byte per second makes none."""
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.2, 10.0
MAX_DROPPED_BYTES = 2**20


class TransientError(Exception):
    """A failure that may pass.

    Args:
        problem: a finished phrase without secrets.
        wait_seconds: how long the server asks to wait.
        is_first: whether nothing was ever heard of this server, whose name may be wrong.
    """

    def __init__(self, problem: str, *, wait_seconds: float = 0.0, is_first: bool = False) -> None:
        super().__init__(problem)
        self.problem, self.wait_seconds, self.is_first = problem, wait_seconds, is_first


class Retries:
    """The attempts of one call.

    Args:
        traffic: counts the repetitions.
        closed: set when the client is closed; ends every wait.
    """

    def __init__(self, traffic: Traffic, closed: threading.Event) -> None:
        self._traffic, self._closed = traffic, closed
        self._restart()

    def begin(self) -> None:
        """Begin a new deadline, unless failures without progress preceded: time between two reads does not count."""
        if not self._num_failures:
            self._restart()

    def progressed(self, num_bytes: int) -> None:
        """Report bytes that arrived; enough of them begin a new deadline."""
        self._num_bytes += num_bytes
        if self._num_bytes >= PROGRESS_BYTES:
            self._restart()

    def wait(self, fault: TransientError) -> None:
        """Wait before the next attempt.

        Raises:
            RemoteError: if the deadline would pass, or the client was closed.
        """
        self._num_failures += 1
        longest = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** min(self._num_failures, 16))
        wait_seconds = max(fault.wait_seconds, random.uniform(0, longest))  # noqa: S311  # not a secret
        timeout_seconds = min(TIMEOUT_SECONDS, FIRST_TIMEOUT_SECONDS if fault.is_first else TIMEOUT_SECONDS)
        if time.monotonic() + wait_seconds > self._began + timeout_seconds:
            attempts = "1 attempt" if self._num_failures == 1 else f"{self._num_failures} attempts"
            problem = f"{fault.problem} ({attempts}, no progress possible in {timeout_seconds:g} seconds)"
            raise RemoteError(problem) from fault
        self._traffic.add(retries=1)
        if self._closed.wait(wait_seconds):
            raise RemoteError("the connection was closed") from fault

    def _restart(self) -> None:
        self._began = time.monotonic()
        self._num_failures = self._num_bytes = 0


class Body(Protocol):
    """The answer to one request: the bytes of an object from some position on.

    Attributes:
        version: the version of the object that answered.
    """

    version: Version

    def read(self, max_bytes: int) -> bytes:
        """Return the next bytes, at least one unless the body has ended; raises `TransientError` or `OSError`."""

    def close(self) -> None:
        """Release the connection; never raises."""


class Request(Protocol):
    """Asks for the bytes of an object from a position on, of a certain version if one is given."""

    def __call__(self, start: int, version: Version | None) -> Body:
        """Return the body; raises `TransientError` or `OSError`."""


class Download:
    """Bytes of an object, in order; continues after every fault at the last good byte. Not thread-safe.

    Args:
        request: asks for the bytes from a position on.
        retries: the attempts of this download.
        start: the first byte.
        size: the number of bytes; None for all to the end of the object.
        version: the version that is expected; None for that of the first answer.

    Attributes:
        position: the next byte.
        version: the version of the object; None until it is known.
    """

    def __init__(
        self, request: Request, retries: Retries, *, start: int = 0, size: int | None, version: Version | None = None
    ) -> None:
        self._request, self._retries = request, retries
        self._body: Body | None = None
        self._end = None if size is None else start + size
        self.position, self.version = start, version

    def read(self, max_bytes: int) -> bytes:
        """Return the next bytes, at least one unless all were read.

        Raises:
            OSError: if they cannot be had.
        """
        self._retries.begin()
        while not self._is_complete():
            try:
                return self._read_once(max_bytes)
            except TransientError as fault:
                self.close()
                self._retries.wait(fault)
            except OSError:
                self.close()
                raise
        self.close()
        return b""

    def read_rest(self) -> bytes:
        """Return all bytes that are left."""
        chunks = list(iter(lambda: self.read(2**20), b""))
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def read_all(self, max_bytes: int) -> bytes:
        """Return the whole object; raises `TooLargeError` if it is larger than `max_bytes`."""
        num_bytes = self.version_now().num_bytes
        if num_bytes > max_bytes:
            raise TooLargeError(f"it has {num_bytes:,} bytes, more than the {max_bytes:,} that are expected at most")
        return self.read_rest()

    def version_now(self) -> Version:
        """Return the version of the object, asking for it if nothing was read yet."""
        self._retries.begin()
        while self.version is None:
            try:
                self._open()
            except TransientError as fault:
                self._retries.wait(fault)
        return self.version

    def seek(self, position: int) -> None:
        """Continue at another byte; a short way forward is read and dropped, which is faster than a new request."""
        while self.position < position <= self.position + MAX_DROPPED_BYTES and self._body is not None:
            if not self.read(position - self.position):
                break
        if self.position != position:
            self.close()
            self.position = position

    def close(self) -> None:
        """Release the connection."""
        if self._body is not None:
            self._body.close()
            self._body = None

    def _open(self) -> Body:
        body = self._body = self._request(self.position, self.version)
        self.version, num_bytes = body.version, body.version.num_bytes
        self._end = num_bytes if self._end is None else self._end
        return body

    def _read_once(self, max_bytes: int) -> bytes:
        body = self._body or self._open()
        if self._is_complete():  # an empty object
            return b""
        assert self._end is not None
        if self._end > body.version.num_bytes:
            raise RemoteError(f"it has {body.version.num_bytes:,} bytes, not {self._end:,}")
        found = body.read(min(max_bytes, self._end - self.position))
        if not found:
            raise TransientError(f"the answer ends at byte {self.position:,}, before byte {self._end:,}")
        self.position += len(found)
        self._retries.progressed(len(found))
        return found

    def _is_complete(self) -> bool:
        return self._end is not None and self.position >= self._end
