"""Connections to HTTP servers that end when the server is too slow, and that never reach a link-local address.

In: host names.
Out: a pool of connections.
Invariant: neither the headers nor the body of an answer can arrive more slowly than `MIN_BYTES` per `PACE_SECONDS`
without an error.
"""

import http.client
import io
import time
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from wds_bone.storage.access import check_peer

CONNECT_SECONDS = 10.0
PACE_SECONDS = 10.0
"""How long a server may send nothing, or fewer than `MIN_BYTES`. Tests make it shorter."""
MIN_BYTES = 4096
MAX_CONNECTIONS = 64


def open_pool() -> urllib3.PoolManager:
    """Return a pool that repeats nothing, follows no redirect, and keeps up to `MAX_CONNECTIONS` open per host."""
    pool = urllib3.PoolManager(
        maxsize=MAX_CONNECTIONS,
        retries=False,
        timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=PACE_SECONDS),
    )
    pool.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
    return pool


class _PacedStream(io.RawIOBase):
    """What a server sends, with an error if it is too slow; only time spent waiting for the server counts."""

    def __init__(self, stream: io.RawIOBase) -> None:
        self._stream = stream
        self._seconds, self._num_bytes = 0.0, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._seconds >= PACE_SECONDS:
            if self._num_bytes < MIN_BYTES:
                raise TimeoutError
            self._seconds, self._num_bytes = 0.0, 0
        start = time.monotonic()
        num_bytes = self._stream.readinto(buffer)  # type: ignore[attr-defined]  # every raw stream has it
        self._seconds += time.monotonic() - start
        self._num_bytes += num_bytes or 0
        return num_bytes  # type: ignore[no-any-return]

    def close(self) -> None:
        self._stream.close()
        super().close()


class _PacedResponse(http.client.HTTPResponse):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fp = io.BufferedReader(_PacedStream(self.fp.detach()))  # type: ignore[attr-defined]


class _Connection(HTTPConnection):
    response_class = _PacedResponse

    def connect(self) -> None:
        super().connect()
        check_peer(self.sock)


class _TlsConnection(HTTPSConnection):
    response_class = _PacedResponse

    def connect(self) -> None:
        super().connect()
        check_peer(self.sock)


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection
