"""Redirects lead only where they may."""

import ipaddress
import socket
from collections.abc import Iterator

import pytest

from wds_bone.objects import access
from wds_bone.objects.access import check_peer, check_redirect, is_same_host
from wds_bone.objects.http_objects import HttpObjects
from wds_bone.objects.protocol import RemoteError
from wds_bone.objects.url import parse_url


@pytest.fixture(autouse=True)
def no_hosts() -> Iterator[None]:
    yield
    access.allow_redirects_to([])


@pytest.mark.parametrize(
    "target",
    ["http://host/b", "http://HOST:80/b", "https://host/b", "http://host/b?x=1"],
)
def test_a_redirect_within_a_host_or_to_its_https_is_followed(target: str):
    check_redirect("http://host/a", target)
    assert is_same_host("http://host/a", target)


@pytest.mark.fault("C11")
@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("https://other/a?sig=canary", "another host, other, "),
        ("https://host:444/a", "another host, host:444, "),
        ("https://host.other/a", "another host, host.other, "),
        ("https://user:canary@other/a", "another host, other, "),
        ("http://host/a", "from https to http"),
        ("file:///etc/passwd", "scheme 'file'"),
        ("ftp://host/a", "scheme 'ftp'"),
    ],
)
def test_a_redirect_elsewhere_is_refused(target: str, problem: str):
    with pytest.raises(RemoteError, match=problem) as refused:
        check_redirect("https://host/b", target)
    assert "canary" not in str(refused.value)


@pytest.mark.fault("C11")
def test_a_redirect_to_an_allowed_host_is_followed():
    access.allow_redirects_to(["Other.org", "third:444"])
    for target in ("https://other.org/a", "https://other.org:8443/a", "https://third:444/a"):
        check_redirect("https://host/b", target)
    for target in ("https://third/a", "https://x.other.org/a", "http://other.org/a"):
        with pytest.raises(RemoteError):
            check_redirect("https://host/b", target)
    check_redirect("https://host/b", "https://any.org", any_host=True)


class Connected:
    """The part of a socket that `check_peer` uses: no test machine has a link-local server."""

    def __init__(self, *address: object) -> None:
        self.address = address

    def getpeername(self) -> object:
        return self.address


@pytest.mark.fault("C11")
@pytest.mark.parametrize(
    "address", ["169.254.169.254", "169.254.170.2", "fe80::1%eth0", "fd00:ec2::254", "::ffff:169.254.169.254"]
)
def test_a_link_local_address_is_refused(address: str):
    with pytest.raises(RemoteError, match="link-local"):
        check_peer(Connected(address, 80))  # type: ignore[arg-type]


@pytest.mark.fault("C11")
def test_the_address_is_checked_before_the_encryption_begins(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(access, "_METADATA", ipaddress.ip_address("127.0.0.1"))  # no test machine has a link-local one
    client = HttpObjects()
    with socket.create_server(("127.0.0.1", 0)) as server:
        with pytest.raises(RemoteError, match="link-local"):
            client.read(parse_url(f"https://127.0.0.1:{server.getsockname()[1]}/a.tar"), 0, 1)
        connected = server.accept()[0]
        connected.settimeout(10)
        assert connected.recv(100) == b""
        connected.close()
    client.close()


def test_other_addresses_are_not_refused():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as connected:
        check_peer(connected)
    for address in ("10.0.0.1", "::1", "2001:db8::1", "::ffff:10.0.0.1"):
        check_peer(Connected(address, 80))  # type: ignore[arg-type]
