"""Servers are asked through the proxy of the environment."""

import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.servers.answers import Request
from tests.servers.fault import fault_server
from tests.servers.nginx import nginx
from tests.servers.process import free_port
from tests.servers.proxy import http_proxy
from tests.servers.s3 import s3_environment
from wds_bone.objects import retries
from wds_bone.objects.clients import open_client
from wds_bone.objects.http_objects import HttpObjects
from wds_bone.objects.protocol import RemoteError
from wds_bone.objects.proxies import proxy_of
from wds_bone.objects.url import parse_url

CONTENTS = bytes(range(251)) * 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.tar").write_bytes(CONTENTS)
    return tmp_path


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpObjects]:
    monkeypatch.setattr(retries, "TIMEOUT_SECONDS", 1.0)
    opened = HttpObjects()
    yield opened
    opened.close()


def test_http_is_asked_through_the_proxy_with_its_password_and_the_server_does_not_see_it(
    folder: Path, client: HttpObjects, monkeypatch: pytest.MonkeyPatch
):
    asked: list[Request] = []
    seen: list[Request] = []
    with fault_server(folder, log=asked) as root, http_proxy(log=seen) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.replace("://", "://me:pass%20word@"))
        for start in (0, 100):
            url = parse_url(root.replace("://", "://reader:x@") + "/set/a.tar?sig=1")
            assert client.read(url, start, 50) == CONTENTS[start : start + 50]
    assert [request.path for request in seen] == [f"{root}/set/a.tar?sig=1"] * 2
    assert [request.header("Proxy-Authorization") for request in seen] == ["Basic bWU6cGFzcyB3b3Jk"] * 2
    assert [request.header("Host") for request in asked] == [urlsplit(root).netloc] * 2
    assert [request.header("Proxy-Authorization") for request in asked] == [None] * 2


def test_https_is_asked_through_a_tunnel(
    folder: Path, client: HttpObjects, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    log: list[Request] = []
    with nginx(folder, tls=True) as root, http_proxy(log=log) as proxy:
        parts = urlsplit(root)
        trusted = tmp_path / "trusted.pem"
        trusted.write_text(ssl.get_server_certificate((parts.hostname or "", parts.port or 0)))
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        monkeypatch.setenv("HTTPS_PROXY", proxy.replace("://", "://me:secret@"))
        assert client.read_all(parse_url(f"{root}/set/a.tar"), max_bytes=10**6) == CONTENTS
    assert [(request.method, request.path) for request in log] == [("CONNECT", parts.netloc)]
    assert log[0].header("Proxy-Authorization")


def test_a_server_that_needs_no_proxy_is_asked_directly(
    folder: Path, client: HttpObjects, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("NO_PROXY", "example.org,127.0.0.1")
    with fault_server(folder) as root:
        assert client.read(parse_url(f"{root}/set/a.tar"), 0, 9) == CONTENTS[:9]


@pytest.mark.fault("C4")
@pytest.mark.parametrize(
    ("proxy", "problem"),
    [
        ("socks5://me:canary@host:1", "the proxy in HTTPS_PROXY or ALL_PROXY is none of the form http://HOST:PORT"),
        ("http://me:canary@host:port", "the proxy in HTTPS_PROXY or ALL_PROXY is none of the form http://HOST:PORT"),
        ("127.0.0.1:{port}", r"the proxy cannot be reached, or does not reach the server \(\d+ attempts?"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_an_error_without_its_password(
    client: HttpObjects, monkeypatch: pytest.MonkeyPatch, proxy: str, problem: str
):
    monkeypatch.setenv("HTTPS_PROXY", proxy.format(port=free_port()))
    with pytest.raises(RemoteError, match=problem) as failed:
        client.read(parse_url("https://server.invalid/a.tar"), 0, 1)
    assert "canary" not in str(failed.value)


@pytest.mark.fault("C4")
def test_a_proxy_that_refuses_is_an_error_at_once(client: HttpObjects, monkeypatch: pytest.MonkeyPatch):
    log: list[Request] = []
    with http_proxy(log=log, status=407) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        with pytest.raises(RemoteError, match=r"the proxy refuses to connect to the server \(HTTP 407\)"):
            client.read(parse_url("https://server.invalid/a.tar"), 0, 1)
    assert len(log) == 1


@pytest.mark.fault("C11")
def test_a_link_local_address_is_refused_behind_a_proxy_too(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ALL_PROXY", "http://proxy:1")
    for host in ("169.254.169.254", "[fe80::1]"):
        with pytest.raises(RemoteError, match="link-local"):
            proxy_of(urlsplit(f"http://{host}/"))


def test_buckets_are_read_through_the_proxy(folder: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("obstore")
    log: list[Request] = []
    with fault_server(folder) as root, http_proxy(log=log) as proxy:
        for name, value in s3_environment(root).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HTTP_PROXY", proxy)
        client = open_client("s3")
        assert client.read(parse_url("s3://set/a.tar"), 0, 9) == CONTENTS[:9]
        client.close()
    assert [request.path for request in log] == [f"{root}/set/a.tar"]
