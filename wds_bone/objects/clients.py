"""Choose the client of a URL.

In: URLs.
Out: clients.
Invariant: a client is never used by two processes: after a fork, the child opens its own.
"""

import atexit
import os
from collections.abc import Callable
from functools import cache

from wds_bone.errors import ConfigError
from wds_bone.objects.protocol import Objects, Transfer
from wds_bone.objects.url import Url

_EXTRAS = {"http": "http", "https": "http", "s3": "s3", "gs": "gcs", "az": "azure", "hf": "hf"}


def open_client(scheme: str) -> Objects:
    """Return a new client for the URLs of a scheme; close it after use.

    Raises:
        ConfigError: if the packages that it needs are not installed.
    """
    try:
        return _openers()[scheme]()
    except ImportError as error:
        extra = _EXTRAS[scheme]
        problem = f"{scheme}://...: the package {error.name} is not installed"
        raise ConfigError(problem, do=f'install it: pip install "wds-bone[{extra}]"') from error


def client_of(url: Url) -> Objects:
    """Return the client of this process for the URLs of a scheme, which stays open.

    Raises:
        ConfigError: if the packages that it needs are not installed.
    """
    return _client("http" if url.scheme == "https" else url.scheme, os.getpid())


def close_clients() -> None:
    """Close the clients that `client_of` returned; it opens new ones, which take the environment as it is then."""
    _client.cache_clear()
    while _opened:
        _opened.pop().close()


def shared_transfer() -> Transfer:
    """Return what the clients that `client_of` returned have moved, in this process."""
    traffic = [client.traffic for client in _opened]
    return Transfer(sum(each.bytes_fetched for each in traffic), retries=sum(each.retries for each in traffic))


@cache
def _client(scheme: str, _process: int) -> Objects:
    client = open_client(scheme)
    _opened.append(client)
    return client


_opened: list[Objects] = []
atexit.register(close_clients)


def _openers() -> dict[str, Callable[[], Objects]]:
    return {
        "http": _open_http,
        "https": _open_http,
        "s3": _open_cloud,
        "gs": _open_cloud,
        "az": _open_cloud,
        "hf": _open_hub,
    }


def _open_http() -> Objects:
    from wds_bone.objects.http_objects import HttpObjects

    return HttpObjects()


def _open_cloud() -> Objects:
    from wds_bone.objects.cloud_objects import CloudObjects

    return CloudObjects()


def _open_hub() -> Objects:
    from wds_bone.objects.hub_objects import HubObjects

    return HubObjects()
