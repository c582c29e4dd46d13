"""The faulty server answers like a good one without a fault, and fails exactly as it is told to with one."""

import http.client
import socket
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.servers.answers import Request
from tests.servers.fault import Fault, at_random, fault_server, in_turn

CONTENTS = bytes(range(256)) * 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.tar").write_bytes(CONTENTS)
    return tmp_path


def fetch(url: str, **headers: str) -> tuple[int, bytes]:
    """Return the status and the contents of one file; headers are written with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"{url}/a.tar", headers=named)
    with urllib.request.urlopen(request, timeout=20) as response:
        return response.status, response.read()


def test_ranges_are_served_and_if_range_is_honored(folder: Path):
    with fault_server(folder) as url:
        assert fetch(url) == (200, CONTENTS)
        assert fetch(url, Range="bytes=5-9") == (206, CONTENTS[5:10])
        assert fetch(url, Range="bytes=1000-") == (206, CONTENTS[1000:])
        assert fetch(url, Range="bytes=-3") == (206, CONTENTS[-3:])
        assert fetch(url, Range="bytes=5-9", If_Range='"old"') == (200, CONTENTS)


def test_faults_come_in_turn_and_requests_are_recorded(folder: Path):
    log: list[Request] = []
    faults = in_turn(Fault(ignore_range=True), Fault(flip_bit=8 * 6), None, Fault(bytes_per_second=1000))
    with fault_server(folder, faults, log=log) as url:
        answers = [fetch(url, Range="bytes=5-9") for _ in range(4)]
    flipped = bytes([5, 7, 7, 8, 9])
    assert answers == [(200, CONTENTS), (206, flipped), (206, CONTENTS[5:10]), (206, CONTENTS[5:10])]
    assert [(request.path, request.header("range")) for request in log] == [("/a.tar", "bytes=5-9")] * 4


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(cut_at=100), http.client.IncompleteRead),
        (Fault(cut_at=100, framing="chunks"), http.client.IncompleteRead),
        (Fault(cut_at=100, ending="reset"), (ConnectionResetError, http.client.IncompleteRead)),
        (Fault(status=503, headers={"Retry-After": "1"}), urllib.error.HTTPError),
    ],
)
def test_an_answer_fails_as_told(folder: Path, fault: Fault, error: type[Exception]):
    with fault_server(folder, in_turn(fault)) as url:
        with pytest.raises(error) as caught:
            fetch(url)
        getattr(caught.value, "close", lambda: None)()
        assert fetch(url) == (200, CONTENTS)


def test_an_end_of_connection_hides_a_cut(folder: Path):
    with fault_server(folder, in_turn(Fault(cut_at=100, framing="connection"))) as url:
        assert fetch(url) == (200, CONTENTS[:100])


def test_a_stalled_answer_ends_with_the_server(folder: Path):
    with fault_server(folder, in_turn(Fault(cut_at=100, ending="stall"))) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        connection = socket.create_connection((host, int(port)), timeout=20)
        connection.sendall(b"GET /a.tar HTTP/1.1\r\nHost: here\r\n\r\n")
        assert connection.recv(1)
        begin = time.monotonic()
    connection.close()
    assert time.monotonic() - begin < 10


def test_a_proxy_passes_on_what_it_gets(folder: Path):
    with fault_server(folder) as behind, fault_server(behind, in_turn(Fault(cut_at=3))) as url:
        with pytest.raises(http.client.IncompleteRead):
            fetch(url, Range="bytes=5-9")
        assert fetch(url, Range="bytes=5-9") == (206, CONTENTS[5:10])


def test_random_faults_depend_on_the_seed_alone():
    kinds = [lambda generator: Fault(cut_at=generator.randrange(100)), lambda generator: Fault(status=503)]

    def drawn(seed: int) -> list[Fault | None]:
        faults = at_random(kinds, seed=seed, share=0.5)
        return [faults(Request("GET", "/a.tar")) for _ in range(40)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert 10 < sum(fault is not None for fault in drawn(1)) < 30
