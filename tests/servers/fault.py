"""An HTTP server that serves a folder, or stands in front of another server, and fails as it is told to.

In: a folder or the URL of a server, and what goes wrong with which request.
Out: a URL, and a record of every request.
Invariant: without a fault, the answers are those of a good server: ranges, `If-Range`, `ETag`, right lengths.
All threads and connections end with the server, also those that are stalled.
"""

import itertools
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

from tests.servers.answers import Answer, Request, answer_from_folder, answer_from_server


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one answer; several things may go wrong at once.

    Attributes:
        status: The answer has this status and the contents `body`, whatever was asked for.
        body: The contents of the answer.
        headers: Headers to add or to replace, such as `Retry-After`, `Location`, `ETag` or a wrong `Content-Length`.
        ignore_range: The answer is 200 with the whole object.
        flip_bit: The number of a bit of the object that is flipped, counted from the start of the object.
        delay_seconds: The time before the answer begins.
        cut_at: Only this many bytes of the contents are sent, and then comes the `ending`.
        ending: The connection is closed (FIN), reset (RST), or stays open and silent.
        framing: How the client knows the end: `Content-Length`, chunks, or the end of the connection.
        bytes_per_second: The speed of this answer.
        cut_upload_at: Only this many bytes of what the client sends are taken; then the connection is reset, and the
            request has no effect.
    """

    status: int | None = None
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    ignore_range: bool = False
    flip_bit: int | None = None
    delay_seconds: float = 0.0
    cut_at: int | None = None
    ending: Literal["close", "reset", "stall"] = "close"
    framing: Literal["length", "chunks", "connection"] = "length"
    bytes_per_second: float | None = None
    cut_upload_at: int | None = None


_FIRST_BYTES = 1 << 16
"""How much of what a client sends is read before it is decided what goes wrong."""
Faults = Callable[[Request], Fault | None]


def no_faults(request: Request) -> Fault | None:
    """Let everything go well."""
    return None


def always(fault: Fault, *, path: str = "") -> Faults:
    """Return what fails in the same way at every request whose path ends with `path`."""
    return lambda request: fault if request.path.endswith(path) else None


def in_turn(*faults: Fault | None, path: str = ".tar") -> Faults:
    """Return what fails once for each fault, in this order, at the requests whose path ends with `path`.

    Requests that only ask for the size of a file go well.
    """
    remaining = iter(faults)
    lock = threading.Lock()

    def take(request: Request) -> Fault | None:
        asks_for_size = request.method == "HEAD" or request.header("Range") == "bytes=0-0"
        if asks_for_size or not request.path.endswith(path):
            return None
        with lock:
            return next(remaining, None)

    return take


def at_random(kinds: Sequence[Callable[[random.Random], Fault]], *, seed: int, share: float, path: str = "") -> Faults:
    """Return what fails at a share of the requests, each time with a random kind of fault in a random place."""
    numbers = itertools.count()

    def draw(request: Request) -> Fault | None:
        generator = random.Random(f"{seed} {next(numbers)}")
        if not request.path.endswith(path) or generator.random() >= share:
            return None
        return generator.choice(kinds)(generator)

    return draw


@contextmanager
def fault_server(
    source: Path | str, faults: Faults = no_faults, *, log: list[Request] | None = None, host: str = "127.0.0.1"
) -> Iterator[str]:
    """Serve a folder, or pass requests on to the server with the URL `source`; append every request to `log`."""
    server = _Server(source, faults, log=[] if log is None else log, host=host)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, name="fault server")
    thread.start()
    try:
        yield f"http://{host}:{server.server_port}"
    finally:
        server.stop()
        thread.join(timeout=10)
        assert not thread.is_alive()


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    request_queue_size = 128

    def __init__(self, source: Path | str, faults: Faults, *, log: list[Request], host: str) -> None:
        self.answer = answer_from_folder(source) if isinstance(source, Path) else answer_from_server(source)
        self.faults, self.log = faults, log
        self.stopping = threading.Event()
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__((host, 0), _Handler)

    def process_request_thread(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        with self._lock:
            self._connections.add(request)
        try:
            if self.stopping.is_set():  # `stop` has ended the others already
                self.shutdown_request(request)
                return
            super().process_request_thread(request, client_address)  # type: ignore[arg-type]
        finally:
            with self._lock:
                self._connections.discard(request)

    def handle_error(self, request: object, client_address: object) -> None:  # type: ignore[override]
        """Say nothing: clients may close their connections at any time."""

    def stop(self) -> None:
        """End all connections and threads."""
        self.stopping.set()
        self.shutdown()
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        """Answer a request, with its fault."""
        length = int(self.headers.get("Content-Length") or 0)
        path, _, query = self.path.partition("?")
        body = self.rfile.read(min(length, _FIRST_BYTES))
        request = Request(self.command, path, query, dict(self.headers.items()), body)
        fault = self.server.faults(request) or Fault()
        rest = (length if fault.cut_upload_at is None else fault.cut_upload_at) - len(body)
        request = replace(request, body=body + self.rfile.read(max(0, rest)))
        self.server.log.append(request)
        if fault.cut_upload_at is not None:
            self._end("reset")
            return
        answer = _with_fault(self.server.answer, request, fault)
        self.server.stopping.wait(fault.delay_seconds)
        self._send_headers(answer, fault)
        if self.command != "HEAD":
            self._send_body(answer.body, fault)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def _send_headers(self, answer: Answer, fault: Fault) -> None:
        self.send_response(answer.status)
        headers = {"content-length": str(len(answer.body)), **_lower(answer.headers), **_lower(fault.headers)}
        if fault.framing != "length":
            headers.pop("content-length", None)
            headers |= {"transfer-encoding": "chunked"} if fault.framing == "chunks" else {"connection": "close"}
        for name, value in headers.items():
            self.send_header(name, value)  # `connection: close` closes the connection after this answer
        self.end_headers()

    def _send_body(self, body: bytes, fault: Fault) -> None:
        sent = body if fault.cut_at is None else body[: fault.cut_at]
        for piece in self._pieces(sent, fault.bytes_per_second):
            framed = b"%x\r\n%b\r\n" % (len(piece), piece) if fault.framing == "chunks" else piece
            self.wfile.write(framed)
        if fault.cut_at is not None:
            self._end(fault.ending)
        elif fault.framing == "chunks":
            self.wfile.write(b"0\r\n\r\n")

    def _pieces(self, body: bytes, bytes_per_second: float | None) -> Iterator[bytes]:
        """Cut the contents into pieces, and wait after each one if the answer is slow."""
        size = 1 << 16 if bytes_per_second is None else max(1, int(bytes_per_second / 50))
        for start in range(0, len(body), size):
            yield body[start : start + size]
            if bytes_per_second is not None and self.server.stopping.wait(size / bytes_per_second):
                return

    def _end(self, ending: str) -> None:
        self.close_connection = True
        if ending == "stall":
            self.server.stopping.wait()
        elif ending == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()


def _with_fault(answer_of: Callable[[Request], Answer], request: Request, fault: Fault) -> Answer:
    """Return the answer to a request, changed by a fault."""
    if fault.status is not None:
        return Answer(fault.status, {}, fault.body or b"")
    if fault.ignore_range:
        kept = {name: value for name, value in request.headers.items() if name.lower() != "range"}
        request = replace(request, headers=kept)
    answer = answer_of(request)
    if fault.body is not None:
        answer = replace(answer, body=fault.body)
    if fault.flip_bit is not None:
        answer = replace(answer, body=_flipped(answer.body, fault.flip_bit - 8 * answer.first_byte))
    return answer


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _flipped(body: bytes, bit: int) -> bytes:
    """Return the contents with one bit flipped, or as they are if the bit is elsewhere."""
    flipped = bytearray(body)
    if 0 <= bit < 8 * len(body):
        flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)
