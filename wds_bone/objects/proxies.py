"""Find the HTTP proxy for a server, and tell what its errors mean.

In: the environment variables that other programs use, too: `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`.
Out: a proxy, or None; an error.
Invariant: the user name and password of a proxy are shown nowhere, and go to the proxy only.
"""

import re
import ssl
from base64 import b64encode
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from wds_bone.objects.access import check_address
from wds_bone.objects.protocol import RemoteError
from wds_bone.objects.retries import TransientError

_DEFAULT_PORT = 80
_REFUSED = re.compile(r"Tunnel connection failed: (4\d\d)\b")


class Proxy(NamedTuple):
    """A proxy, and the headers that it needs."""

    host: str
    port: int
    headers: Mapping[str, str]


def proxy_of(server: SplitResult) -> Proxy | None:
    """Return the proxy for the server of a URL; None if it is asked directly.

    A proxy looks up the names of servers itself; here, only an address can be checked.

    Raises:
        RemoteError: if the proxy cannot be used, or the server has a link-local address.
    """
    known = getproxies()
    text = known.get(server.scheme) or known.get("all")
    if not text or proxy_bypass(server.netloc.rpartition("@")[2]):
        return None
    check_address(server.hostname or "")
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        host, port = parts.hostname, parts.port or _DEFAULT_PORT
    except ValueError:  # its text may contain a password
        host, parts, port = None, urlsplit(""), 0
    if parts.scheme != "http" or not host:
        names, do = f"{server.scheme.upper()}_PROXY or ALL_PROXY", "change it, or name this server in NO_PROXY"
        raise RemoteError(f"the proxy in {names} is none of the form http://HOST:PORT; {do}")
    user = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    headers = {"Proxy-Authorization": f"Basic {b64encode(user.encode()).decode()}"} if parts.username else {}
    return Proxy(host, port, headers)


def error_through_proxy(error: OSError) -> TransientError | OSError:
    """Return what an error means that occurred while connecting to a server through a proxy."""
    if isinstance(error, RemoteError | ssl.SSLError):
        return error
    if found := _REFUSED.match(str(error)):
        return RemoteError(f"the proxy refuses to connect to the server (HTTP {found[1]})")
    return TransientError("the proxy cannot be reached, or does not reach the server")
