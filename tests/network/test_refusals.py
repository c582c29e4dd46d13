"""What a server refuses is an error at once, or after its deadline if it may pass."""

import re
import socket
import time
from itertools import product
from pathlib import Path

import pytest

from tests.network.streams import HTML, Row, epoch_of, error_of, with_secrets
from tests.servers.answers import Request
from tests.servers.fault import Fault, always, fault_server, in_turn
from tests.servers.nginx import nginx
from tests.servers.process import free_port


@pytest.mark.fault("C2")
@pytest.mark.parametrize(
    ("name", "status"), [*product(["train-000001.tar"], [401, 403, 404]), *product(["manifest.json"], [401, 403])]
)
def test_a_file_that_is_absent_or_forbidden_is_an_error_at_once(tiny_shards: Path, name: str, status: int):
    log: list[Request] = []
    with fault_server(tiny_shards, always(Fault(status=status, body=HTML), path=name), log=log) as url:
        message = error_of(with_secrets(url), cache="none")
    assert re.search(rf"(?s){re.escape(url)}/{name}\S*: .*HTTP {status}.*do: ", message)
    asked = [(request.path, request.header("range")) for request in log if request.path.endswith(name)]
    assert len(asked) == len(set(asked)) > 0, "it was asked for again"


@pytest.mark.fault("C2")
def test_a_folder_without_a_manifest_is_an_error_at_once_over_http(tmp_path: Path):
    with fault_server(tmp_path) as url:
        message = error_of(with_secrets(url), cache="none")
    assert re.search(rf"(?s){re.escape(url)}/\S*: .*over HTTP.*do: .*manifest.json", message)


@pytest.mark.fault("C3")
def test_a_busy_server_is_asked_again(tiny_shards: Path, local_rows: list[Row], cache: str):
    statuses = (429, 500, 502, 503, 504, 408)
    with fault_server(tiny_shards, in_turn(*(Fault(status=status) for status in statuses))) as url:
        rows, transfer = epoch_of(url, cache=cache)
    assert rows == local_rows
    assert transfer.retries >= len(statuses)


@pytest.mark.fault("C3")
@pytest.mark.parametrize("path", ["manifest.json", "index.npy", ".tar"])
def test_a_server_that_asks_to_wait_is_asked_again_not_sooner(tiny_shards: Path, local_rows: list[Row], path: str):
    asked: list[float] = []
    fault = in_turn(Fault(status=503, headers={"Retry-After": "1"}), path=path)

    def faults(request: Request) -> Fault | None:
        if request.path.endswith(path):
            asked.append(time.monotonic())
        return fault(request)

    with fault_server(tiny_shards, faults) as url:
        assert epoch_of(url, cache="none")[0] == local_rows
    assert max(asked) - asked[0] >= 1.0


@pytest.mark.fault("C3")
@pytest.mark.parametrize("headers", [{}, {"Retry-After": "3600"}, {"Retry-After": "Fri, 31 Dec 2100 23:59:59 GMT"}])
@pytest.mark.usefixtures("short_deadline")
def test_a_server_that_stays_busy_is_an_error_after_the_deadline(tiny_shards: Path, headers: dict[str, str]):
    with fault_server(tiny_shards, always(Fault(status=503, headers=headers), path=".tar")) as url:
        began = time.monotonic()
        message = error_of(with_secrets(url), cache="none")
    assert re.search(r"(?s)train-00000\d.tar\S*: .*HTTP 503 Service Unavailable.*attempt.*do: ", message)
    assert time.monotonic() - began < 30


@pytest.mark.fault("C3")
def test_the_limits_of_nginx_are_kept(tiny_shards: Path, local_rows: list[Row]):
    with nginx(tiny_shards, "limit_req zone=requests burst=1 nodelay;") as url:
        assert epoch_of(url, cache="none")[0] == local_rows


@pytest.mark.fault("C4")
@pytest.mark.usefixtures("short_deadline")
def test_a_closed_port_is_an_error_after_the_deadline(tiny_shards: Path, tmp_path: Path):
    message = error_of(with_secrets(f"http://127.0.0.1:{free_port()}"), cache="none")
    assert re.search(r"(?s)manifest.json\S*: .*the connection is refused.*do: ", message)


@pytest.mark.fault("C4")
@pytest.mark.usefixtures("short_deadline")
def test_a_name_that_cannot_be_resolved_is_an_error_after_the_deadline(monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    message = error_of(with_secrets("http://no-such-host.invalid"), cache="none")
    assert re.search(r"(?s)no-such-host.invalid/manifest.json\S*: .*cannot be resolved.*do: ", message)


@pytest.mark.fault("C4")
def test_a_certificate_that_nobody_has_signed_is_an_error_at_once(tiny_shards: Path):
    with nginx(tiny_shards, tls=True) as url:
        began = time.monotonic()
        message = error_of(with_secrets(url), cache="none")
    assert re.search(r"(?s)manifest.json\S*: .*certificate.*self.signed.*do: ", message)
    assert time.monotonic() - began < 30
