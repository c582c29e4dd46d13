"""An HTTP proxy that records what it is asked for."""

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from tests.servers.answers import Request

TIMEOUT_SECONDS = 60


@contextmanager
def http_proxy(*, log: list[Request], status: int = 200) -> Iterator[str]:
    """Run a proxy that appends every request to `log`; with another status than 200, it refuses to connect."""
    server = _Server(log, status)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, name="proxy")
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)
        assert not thread.is_alive()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, log: list[Request], status: int) -> None:
        self.log, self.status = log, status
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:  # type: ignore[override]
        """Say nothing: clients may close their connections at any time."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        """Answer with what the server answers whose whole address is in the request."""
        self._record()
        parts = urlsplit(self.path)
        connection = http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT_SECONDS)
        headers = {name: value for name, value in self.headers.items() if not name.lower().startswith("proxy-")}
        connection.request(self.command, parts.path + f"?{parts.query}" * bool(parts.query), headers=headers)
        response = connection.getresponse()
        body = response.read()
        self.send_response(response.status)
        for name, value in response.getheaders():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        connection.close()

    do_HEAD = do_GET  # noqa: N815

    def do_CONNECT(self) -> None:
        """Carry bytes in both directions until one end closes."""
        self._record()
        if self.server.status != 200:
            self.send_error(self.server.status)
            return
        host, _, port = self.path.rpartition(":")
        self.close_connection = True
        with socket.create_connection((host, int(port)), timeout=TIMEOUT_SECONDS) as far:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=_carry, args=[far, self.connection], daemon=True)
            back.start()
            _carry(self.connection, far)
            back.join(timeout=TIMEOUT_SECONDS)

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def _record(self) -> None:
        self.server.log.append(Request(self.command, self.path, "", dict(self.headers.items())))


def _carry(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while contents := source.recv(1 << 16):
            target.sendall(contents)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
