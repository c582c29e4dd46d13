"""Decide which servers may be asked: redirects to other hosts must be allowed, and link-local addresses never are.

In: the hosts that the user allows; the target of a redirect; an open socket.
Out: an error, or nothing.
Invariant: nothing is sent to a link-local address, where clouds keep the credentials of a machine. The allowed hosts
apply to the whole process.
"""

import ipaddress
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from wds_bone.objects.protocol import RemoteError

_allowed_hosts: frozenset[str] = frozenset()
_METADATA = ipaddress.ip_address("fd00:ec2::254")  # not link-local, but the same service on AWS over IPv6


def allow_redirects_to(hosts: Iterable[str]) -> None:
    """Allow redirects to these hosts, in the whole process; a name without a port allows all of its ports."""
    global _allowed_hosts
    _allowed_hosts = frozenset(host.lower() for host in hosts)


def allowed_hosts() -> frozenset[str]:
    """Return the hosts that are allowed, for processes that this one starts."""
    return _allowed_hosts


def check_redirect(source: str, target: str, *, any_host: bool = False) -> None:
    """Refuse a redirect to another host, unless it is allowed, and to what is not HTTP.

    Args:
        source: the URL that was asked for.
        target: the URL that the server names.
        any_host: whether other hosts are allowed anyway.

    Raises:
        RemoteError: if it is refused.
    """
    old, new = urlsplit(source), urlsplit(target)
    if new.scheme not in ("http", "https"):
        raise RemoteError(f"the server redirects to a URL of the scheme {new.scheme[:20]!r}, which is refused")
    if old.scheme == "https" and new.scheme == "http":
        raise RemoteError(f"the server redirects from https to http, to {_host(target)}, which is refused")
    if not (any_host or is_same_host(source, target) or _allowed_hosts & {_host(target), (new.hostname or "").lower()}):
        do = "if you trust it, allow it with `--allow-host`"
        raise RemoteError(f"the server redirects to another host, {_host(target)}, which is refused; {do}")


def is_same_host(source: str, target: str) -> bool:
    """Return whether two URLs name the same server; HTTPS on the same host instead of HTTP is the same server."""
    old, new = urlsplit(source), urlsplit(target)
    is_upgrade = (old.scheme, new.scheme) == ("http", "https") and old.port == new.port is None
    return old.hostname == new.hostname and (_port(source) == _port(target) or is_upgrade)


def check_peer(connected: socket.socket) -> None:
    """Refuse a connection to a link-local address.

    Raises:
        RemoteError: if it is one.
    """
    check_address(connected.getpeername()[0])


def check_address(host: str) -> None:
    """Refuse a link-local address; the name of a host is not resolved.

    Raises:
        RemoteError: if it is one.
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return
    mapped = getattr(address, "ipv4_mapped", None) or address
    if mapped.is_link_local or mapped == _METADATA:
        raise RemoteError(f"the host has the link-local address {mapped}, which is refused")


def _host(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)


def _port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)
