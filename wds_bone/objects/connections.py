"""Send GET requests to HTTP servers, over connections that are used again.

In: addresses and headers; the proxies of the environment.
Out: answers.
Invariant: nothing, not even a TLS handshake, is sent to a link-local address. Neither the headers nor the body of an
answer can arrive more slowly than `MIN_BYTES` per `PACE_SECONDS` without an error.

For a range of 20 kB, `http.client` alone takes 0.34 ms of CPU time and urllib3 0.78 ms (one thread, a busy machine).
"""

import http.client
import io
import select
import ssl
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any
from urllib.parse import SplitResult, urlsplit

from wds_bone.objects.access import check_peer
from wds_bone.objects.proxies import Proxy, error_through_proxy, proxy_of

CONNECT_SECONDS = 10.0
PACE_SECONDS = 10.0
"""How long a server may send nothing, or fewer than `MIN_BYTES`. Tests make it shorter."""
MIN_BYTES = 4096
MAX_DRAINED_BYTES = 2048
MAX_IDLE = 64
"""How many connections to a server are kept."""


class Connections:
    """Connections to any number of servers. Thread-safe."""

    def __init__(self) -> None:
        self._idle: dict[tuple[str, str], deque[_Connection]] = defaultdict(deque)
        self._is_closed = False

    def get(self, address: str, headers: Mapping[str, str]) -> "Answer":
        """Return the answer to a GET request; follows no redirect and repeats nothing.

        Raises:
            OSError, http.client.HTTPException: if the connection fails, or the server answers anything but HTTP.
            ValueError: if the address is not valid.
        """
        parts = urlsplit(address)
        idle = self._idle[parts.scheme, parts.netloc]
        connection = _usable(idle) or self._connect(parts)
        try:
            connection.request("GET", connection.prefix + _target(parts), headers={**headers, **connection.own_headers})
            return Answer(connection.getresponse(), connection, partial(self._keep, idle))
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        """Close the connections that nobody uses; the others are closed after use."""
        self._is_closed = True
        for idle in list(self._idle.values()):
            while connection := _pop(idle):
                connection.close()

    def _keep(self, idle: "deque[_Connection]", connection: "_Connection") -> None:
        """Keep a connection that is not used any more for the next request."""
        idle.append(connection)  # before `_is_closed` is read: `close` may be running in another thread
        while len(idle) > (0 if self._is_closed else MAX_IDLE) and (surplus := _pop(idle)):
            surplus.close()

    def _connect(self, parts: SplitResult) -> "_Connection":
        proxy = proxy_of(parts)
        connection = self._new_connection(parts, proxy)
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            raise (error if proxy is None else error_through_proxy(error)) from None
        except BaseException:
            connection.close()
            raise
        connection.sock.settimeout(PACE_SECONDS)
        return connection

    def _new_connection(self, parts: SplitResult, proxy: Proxy | None) -> "_Connection":
        """Return a connection to a server, or to a proxy: HTTPS through a tunnel, and HTTP by the whole address."""
        host, port = (parts.hostname or "", parts.port) if proxy is None else proxy[:2]
        if parts.scheme == "https":
            encrypted = _TlsConnection(host, port, timeout=CONNECT_SECONDS, context=self._tls)
            if proxy is not None:
                encrypted.set_tunnel(parts.hostname or "", parts.port or 443, headers=dict(proxy.headers))
            return encrypted
        connection = _Connection(host, port, timeout=CONNECT_SECONDS)
        if proxy is not None:
            connection.prefix = f"http://{parts.netloc.rpartition('@')[2]}"
            connection.own_headers = proxy.headers
        return connection

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()


class Answer:
    """The answer of a server.

    Attributes:
        status: the HTTP status.
        headers: its headers.
    """

    def __init__(
        self,
        response: http.client.HTTPResponse,
        connection: "_Connection",
        keep: "Callable[[_Connection], None]",
    ) -> None:
        self.status, self.headers = response.status, response.headers
        self._response, self._connection, self._keep = response, connection, keep

    def read(self, max_bytes: int) -> bytes:
        """Return the next bytes of the body; none at its end, or where it was cut.

        Raises:
            OSError, http.client.HTTPException: if the connection fails.
        """
        return self._response.read1(max_bytes)

    def close(self) -> None:
        """Keep the connection if the whole body was read, or what is left of it is short; else close it."""
        if self._response.length is not None and 0 < self._response.length <= MAX_DRAINED_BYTES:
            with suppress(OSError, http.client.HTTPException):
                self._response.read()
        is_complete = self._response.length == 0 or self._response.isclosed()
        self._response.close()
        if is_complete and self._connection.sock:
            self._keep(self._connection)
        else:
            self._connection.close()


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
        num_bytes: int | None = self._stream.readinto(buffer)
        self._seconds += time.monotonic() - start
        self._num_bytes += num_bytes or 0
        return num_bytes

    def close(self) -> None:
        self._stream.close()
        super().close()


class _PacedResponse(http.client.HTTPResponse):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fp = io.BufferedReader(_PacedStream(self.fp.detach()))


class _Connection(http.client.HTTPConnection):
    """A connection; `prefix` is put in front of what is asked for, and `own_headers` are sent with each request."""

    response_class = _PacedResponse
    prefix = ""
    own_headers: Mapping[str, str] = MappingProxyType({})

    def connect(self) -> None:
        super().connect()
        check_peer(self.sock)


class _TlsConnection(http.client.HTTPSConnection, _Connection):
    """A connection that is encrypted after its peer has been checked: in this order `connect` calls those above."""


def _target(parts: SplitResult) -> str:
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _usable(idle: deque[_Connection]) -> _Connection | None:
    """Take a connection that the server has not closed meanwhile, or None."""
    while connection := _pop(idle):
        poll = select.poll()
        poll.register(connection.sock, select.POLLIN)
        if not poll.poll(0):
            return connection
        connection.close()
    return None


def _pop(idle: deque[_Connection]) -> _Connection | None:
    with suppress(IndexError):
        return idle.pop()
    return None
