"""Objects are read over HTTP, also from servers that fail."""

import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tracemalloc import get_traced_memory, start, stop

import pytest

from tests.servers.answers import Request
from tests.servers.fault import Fault, always, fault_server, in_turn
from wds_bone.storage import access, connections, http_objects, retries
from wds_bone.storage.http_objects import HttpObjects
from wds_bone.storage.objects import ChangedError, RemoteError, Version
from wds_bone.storage.url import Url, parse_url

CONTENTS = bytes(range(251)) * 4000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.tar").write_bytes(CONTENTS)
    (tmp_path / "empty").touch()
    return tmp_path


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpObjects]:
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0.01)
    opened = HttpObjects()
    yield opened
    opened.close()


def test_ranges_and_whole_objects_are_read_over_one_connection(folder: Path, client: HttpObjects):
    with fault_server(folder) as root:
        url = parse_url(f"{root}/a.tar")
        version = client.version(url)
        assert version.num_bytes == len(CONTENTS)
        assert client.read(url, 1000, 20_000, version=version) == CONTENTS[1000:21_000]
        assert client.read_all(url, max_bytes=len(CONTENTS)) == CONTENTS
        assert client.read_all(parse_url(f"{root}/empty"), max_bytes=0) == b""
        assert client.traffic.bytes_fetched == 1 + 20_000 + len(CONTENTS)
        assert client.traffic.retries == 0


def test_a_connection_is_used_again(client: HttpObjects):
    with counting_server() as (url, connections_made):
        for _ in range(5):
            assert client.read(url, 0, 3) == b"abc"
        assert len(connections_made) == 1


def test_a_file_is_read_in_order_with_seeks_in_bounded_memory(folder: Path, client: HttpObjects):
    contents = CONTENTS * 20
    (folder / "large.tar").write_bytes(contents)
    faults = in_turn(None, Fault(cut_at=100_000))
    with fault_server(folder, faults) as root, client.open(parse_url(f"{root}/large.tar")) as file:
        assert file.read(600) == contents[:600]
        assert file.seek(0, io.SEEK_END) == len(contents)
        assert file.read() == b""
        assert file.seek(10) == 10
        start()
        size = sum(len(file.read(50_000)) for _ in range(100))
        peak = get_traced_memory()[1]
        stop()
        assert size == 5_000_000
        assert file.tell() == 5_000_010
        assert file.read(7) == contents[5_000_010:5_000_017]
    assert peak < 4_000_000 + len(contents)  # the server copies the file in this process


def test_bytes_after_the_end_are_an_error(folder: Path, client: HttpObjects):
    with fault_server(folder) as root:
        with pytest.raises(RemoteError, match="it has 1,004,000 bytes, not 1,004,010"):
            client.read(parse_url(f"{root}/a.tar"), len(CONTENTS) - 10, 20)
        with pytest.raises(RemoteError, match="it has 1,004,000 bytes"):
            client.read(parse_url(f"{root}/a.tar"), len(CONTENTS) + 10, 20)
        with pytest.raises(RemoteError, match="more than the 10 that are expected"):
            client.read_all(parse_url(f"{root}/a.tar"), max_bytes=10)


@pytest.mark.fault("C8")
@pytest.mark.parametrize("expected", [Version(5, None), Version(len(CONTENTS), '"another"')])
def test_another_version_is_an_error(folder: Path, client: HttpObjects, expected: Version):
    with fault_server(folder) as root, pytest.raises(ChangedError, match="replaced"):
        client.read(parse_url(f"{root}/a.tar"), 100, 20, version=expected)


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        (Fault(headers={"Content-Encoding": "gzip"}), "compressed"),
        (Fault(headers={"Content-Range": "bytes 100-119/*"}), "does not state the size"),
        (Fault(ignore_range=True, framing="connection"), "does not state the size"),
        (Fault(status=418), "HTTP 418"),
    ],
)
def test_an_answer_that_cannot_be_trusted_is_an_error_at_once(
    folder: Path, client: HttpObjects, fault: Fault, problem: str
):
    with fault_server(folder, always(fault)) as root, pytest.raises(RemoteError, match=problem):
        client.read(parse_url(f"{root}/a.tar"), 100, 20)
    assert client.traffic.retries == 0


def test_another_range_than_asked_for_is_asked_again(folder: Path, client: HttpObjects):
    wrong = Fault(headers={"Content-Range": f"bytes 5-24/{len(CONTENTS)}"})
    with fault_server(folder, in_turn(wrong)) as root:
        assert client.read(parse_url(f"{root}/a.tar"), 100, 20) == CONTENTS[100:120]
    assert client.traffic.retries == 1


@pytest.mark.fault("C11", "I2")
def test_credentials_go_to_the_host_that_they_are_for_and_nowhere_else(folder: Path, client: HttpObjects):
    here: list[Request] = []
    there: list[Request] = []
    with fault_server(folder, log=there) as other:
        moved = Fault(status=302, headers={"Location": f"{other}/a.tar"})
        with fault_server(folder, always(moved), log=here) as root, allowed(other):
            url = parse_url(root.replace("://", "://reader:pass%20word@") + "/a.tar")
            assert client.read(url, 0, 10) == CONTENTS[:10]
    assert [request.header("Authorization") for request in here] == ["Basic cmVhZGVyOnBhc3Mgd29yZA=="]
    assert [request.header("Authorization") for request in there] == [None]


def test_the_target_of_a_redirect_is_asked_directly_until_it_refuses(folder: Path, client: HttpObjects):
    here: list[Request] = []
    with fault_server(folder, in_turn(None, None, Fault(status=403))) as other:
        moved = Fault(status=302, headers={"Location": f"{other}/a.tar"})
        with fault_server(folder, always(moved), log=here) as root, allowed(other):
            for _ in range(4):
                assert client.read(parse_url(f"{root}/a.tar"), 0, 10) == CONTENTS[:10]
    assert len(here) == 2


@contextmanager
def allowed(root: str) -> Iterator[None]:
    access.allow_redirects_to([root.removeprefix("http://")])
    try:
        yield
    finally:
        access.allow_redirects_to([])


@pytest.mark.fault("C7")
@pytest.mark.parametrize("sent", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b""])
def test_a_server_that_sends_a_byte_now_and_then_is_given_up(
    client: HttpObjects, monkeypatch: pytest.MonkeyPatch, sent: bytes
):
    monkeypatch.setattr(retries, "TIMEOUT_SECONDS", 1.0)
    monkeypatch.setattr(connections, "PACE_SECONDS", 0.3)
    with trickling_server(sent) as url:
        began = time.monotonic()
        with pytest.raises(RemoteError, match=r"too little, for some time \(\d+ attempts?, no progress"):
            client.read(url, 0, 9999)
        assert time.monotonic() - began < 30


@pytest.mark.fault("C7")
def test_a_client_that_is_closed_ends_the_waits_of_all_threads(folder: Path, client: HttpObjects):
    busy = always(Fault(status=503, headers={"Retry-After": "60"}))
    errors: list[str] = []
    waiting = threading.Event()

    def read(url: Url) -> None:
        waiting.set()
        with pytest.raises(RemoteError) as failed:
            client.read(url, 0, 1)
        errors.append(failed.value.strerror)

    log: list[Request] = []
    with fault_server(folder, busy, log=log) as root:
        thread = threading.Thread(target=read, args=[parse_url(f"{root}/a.tar")])
        thread.start()
        assert waiting.wait(30)
        client.close()
        thread.join(30)
    assert errors == ["the connection was closed"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(None, 0), ("7", 7), (" 7 ", 7), ("soon", 0), ("-5", 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0)],
)
def test_the_time_to_wait_is_a_number_or_a_date(text: str | None, seconds: float):
    assert http_objects._retry_after_seconds(text) == seconds


def test_a_url_without_a_valid_host_is_an_error_at_once(client: HttpObjects):
    for text in ("http://a b/x.tar", "http://host:port/x.tar", f"http://{'x' * 70}.org/x.tar", "http://h:999999/x"):
        with pytest.raises(RemoteError, match="the URL is not valid"):
            client.read(parse_url(text), 0, 1)


def test_what_http_cannot_do_is_an_error(client: HttpObjects):
    url = parse_url("http://host/a.tar")
    for call in (lambda: client.names(url), lambda: client.write(url, b""), lambda: client.delete(url)):
        with pytest.raises(RemoteError, match="over HTTP"):
            call()


@contextmanager
def counting_server() -> Iterator[tuple[Url, list[object]]]:
    """Serve the range `abc` over and over, and list the connections."""
    answer = b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-2/9\r\nContent-Length: 3\r\n\r\nabc"
    made: list[object] = []

    def serve(connection: socket.socket) -> None:
        made.append(connection)
        while connection.recv(65536):
            connection.sendall(answer)

    with raw_server(serve) as url:
        yield url, made


@contextmanager
def trickling_server(sent: bytes) -> Iterator[Url]:
    """Send some bytes, and then one every tenth of a second."""
    stopping = threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(sent)
        while not stopping.wait(0.1):
            connection.sendall(b"x")

    with raw_server(serve) as url:
        yield url
        stopping.set()


@contextmanager
def raw_server(serve: object) -> Iterator[Url]:
    """Serve each connection in a thread."""
    threads: list[threading.Thread] = []

    def run(connection: socket.socket) -> None:
        with connection:
            try:
                serve(connection)  # type: ignore[operator]
            except OSError:
                return  # the client closed it

    def accept(listener: socket.socket) -> None:
        while True:
            try:
                connection = listener.accept()[0]
            except OSError:
                return
            threads.append(threading.Thread(target=run, args=[connection]))
            threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads.append(threading.Thread(target=accept, args=[listener]))
        threads[0].start()
        yield parse_url(f"http://127.0.0.1:{listener.getsockname()[1]}/a.tar")
        listener.shutdown(socket.SHUT_RDWR)
