"""Read objects from HTTP servers.

In: URLs of the schemes `http` and `https`, byte ranges.
Out: bytes, sizes, versions.
Invariant: bytes of two versions of an object are never joined; the number of bytes is always compared with what the
server stated; redirects are followed only where `access` allows it, and never with credentials to another host.
"""

import errno
import io
import re
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from typing import BinaryIO
from urllib.parse import unquote, urljoin

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationValueError,
    NameResolutionError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.util import make_headers

from wds_bone.storage.access import check_redirect, is_same_host
from wds_bone.storage.connections import CONNECT_SECONDS, open_pool
from wds_bone.storage.objects import ChangedError, RemoteError, Traffic, Version
from wds_bone.storage.retries import Download, Retries, TransientError
from wds_bone.storage.sequential import SequentialFile
from wds_bone.storage.url import Url

MAX_REDIRECTS = 5
SKIPPED_AT_ONCE_BYTES = 2**20
_REDIRECTS = (301, 302, 303, 307, 308)
_MAY_PASS = (408, 425, 429, 500, 502, 503, 504)
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")
_NO_RANGE = re.compile(r"bytes \*/(\d+)")

_PHRASES = (
    (NameResolutionError, "the name of the host cannot be resolved"),
    (NewConnectionError, "the connection is refused, or the host cannot be reached"),
    (ConnectTimeoutError, f"the host did not accept a connection within {CONNECT_SECONDS:g} seconds"),
    ((TimeoutError, ReadTimeoutError), "the server sent nothing, or too little, for some time"),
    (Exception, "the connection was cut"),
)


class HttpObjects:
    """The objects of all HTTP servers.

    Args:
        any_host: whether redirects to any host are allowed.
        headers: returns the headers for a URL, which are not sent to other hosts; by default, its user info.
    """

    def __init__(self, *, any_host: bool = False, headers: Callable[[Url], Mapping[str, str]] | None = None) -> None:
        self.traffic = Traffic()
        self._any_host, self._headers = any_host, headers or _basic_authorization
        self._pool = open_pool()
        self._closed = threading.Event()

    def version(self, url: Url) -> Version:
        """Return the size and version of an object."""
        with closing(self._download(url, size=1)) as download:
            return download.version_now()

    def read(self, url: Url, offset: int, size: int, *, version: Version | None = None) -> bytes:
        """Return exactly `size` bytes of an object."""
        with closing(self._download(url, start=offset, size=size, version=version)) as download:
            return download.read_rest()

    def read_all(self, url: Url, *, max_bytes: int) -> bytes:
        """Return a whole object, of at most `max_bytes`."""
        with closing(self._download(url, size=None)) as download:
            return download.read_all(max_bytes)

    def open(self, url: Url) -> BinaryIO:
        """Return a file that reads an object from its start."""
        return io.BufferedReader(SequentialFile(self._download(url, size=None)), SKIPPED_AT_ONCE_BYTES)

    def names(self, prefix: Url) -> Sequence[str]:  # noqa: ARG002
        """Raise an error, because HTTP has no lists."""
        raise RemoteError("the files of a folder cannot be listed over HTTP")

    def write(self, url: Url, contents: bytes, *, only_if_absent: bool = False) -> None:  # noqa: ARG002
        """Raise an error, because nothing is written over HTTP."""
        raise RemoteError("files cannot be written over HTTP")

    def delete(self, url: Url) -> None:  # noqa: ARG002
        """Raise an error, because nothing is deleted over HTTP."""
        raise RemoteError("files cannot be deleted over HTTP")

    def close(self) -> None:
        """Give up all connections."""
        self._closed.set()
        self._pool.clear()

    def _download(self, url: Url, *, start: int = 0, size: int | None, version: Version | None = None) -> Download:
        request = partial(self._request, url, size and start + size)
        retries = Retries(self.traffic, self._closed)
        return Download(request, retries, start=start, size=size, version=version)

    def _request(self, url: Url, end: int | None, start: int, version: Version | None) -> "_HttpBody":
        """Ask for the bytes from `start` to `end`."""
        headers = {"Range": f"bytes={start}-{'' if end is None else end - 1}", "Accept-Encoding": "identity"}
        if version and version.tag:
            headers["If-Range"] = version.tag
        response = self._follow(url, headers)
        try:
            _check_status(response, version)
            return _HttpBody(response, self.traffic, start=start, version=version)
        except BaseException:
            _drop(response)
            raise

    def _follow(self, url: Url, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        """Return the answer to a request that may be redirected."""
        own_headers = self._headers(url)
        first = text = _plain_text(url)
        for _ in range(MAX_REDIRECTS + 1):
            sent = headers | own_headers if is_same_host(first, text) else headers
            response = self._get(text, sent)
            if response.status not in _REDIRECTS:
                return response
            _drop(response)
            target = urljoin(text, response.headers.get("Location", ""))
            check_redirect(text, target, any_host=self._any_host)
            text = target
        raise RemoteError(f"the server redirects more than {MAX_REDIRECTS} times")

    def _get(self, text: str, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        if self._closed.is_set():
            raise RemoteError("the connection was closed")
        try:
            return self._pool.request("GET", text, headers=headers, redirect=False, preload_content=False)
        except (HTTPError, OSError) as error:
            raise _error_of(error) from error


class _HttpBody:
    """The body of an answer, from byte `start` of the object on."""

    def __init__(
        self, response: urllib3.BaseHTTPResponse, traffic: Traffic, *, start: int, version: Version | None
    ) -> None:
        self._response, self._traffic = response, traffic
        first, num_bytes = _stated_range(response)
        self.version = Version(num_bytes, _tag(response))
        if version is not None:
            _check_unchanged(self.version, version)
        if first not in (0, start):
            raise TransientError(f"the server sent bytes from {first:,} on instead of {start:,}")
        self._num_skipped = start - first  # of a server without ranges

    def read(self, max_bytes: int) -> bytes:
        while self._num_skipped:
            skipped = self._read(min(self._num_skipped, SKIPPED_AT_ONCE_BYTES))
            if not skipped:
                return b""
            self._num_skipped -= len(skipped)
        return self._read(max_bytes)

    def close(self, *, is_complete: bool) -> None:
        if is_complete and self._response.length_remaining == 0:
            self._response.release_conn()
        else:
            _drop(self._response)

    def _read(self, max_bytes: int) -> bytes:
        try:
            found = self._response.read1(max_bytes, decode_content=False)
        except (HTTPError, OSError) as error:
            raise _error_of(error) from error
        self._traffic.add(num_bytes=len(found))
        return found


def _check_status(response: urllib3.BaseHTTPResponse, version: Version | None) -> None:
    """Raise the error or fault that the status of an answer means."""
    status = response.status
    if status in (200, 206):
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            raise RemoteError(f"the server sends it compressed ({encoding[:20]!r}), although it was asked not to")
    elif status in (404, 410):
        raise FileNotFoundError(errno.ENOENT, f"the server has no such file (HTTP {status})")
    elif status in (401, 403):
        raise PermissionError(errno.EACCES, f"the server refuses access (HTTP {status})")
    elif status in _MAY_PASS:
        problem = f"the server answers {_status_text(response)}"
        raise TransientError(problem, wait_seconds=_retry_after_seconds(response.headers.get("Retry-After")))
    elif status == 412 or (status == 416 and version):
        raise ChangedError("it was replaced while it was read")
    elif status != 416:
        raise RemoteError(f"the server answers {_status_text(response)}")


def _stated_range(response: urllib3.BaseHTTPResponse) -> tuple[int, int]:
    """Return the first byte of an answer, and the size of the object."""
    content_range = response.headers.get("Content-Range", "")
    if response.status == 200 and (length := response.headers.get("Content-Length", "")).isdecimal():
        return 0, int(length)
    if response.status == 206 and (found := _RANGE.fullmatch(content_range)):
        return int(found[1]), int(found[2])
    if response.status == 416 and (found := _NO_RANGE.fullmatch(content_range)):
        return 0, int(found[1])
    raise RemoteError(f"the server does not state the size of the file (HTTP {response.status})")


def _check_unchanged(found: Version, expected: Version) -> None:
    if found.num_bytes != expected.num_bytes:
        sizes = f"{found.num_bytes:,} bytes instead of {expected.num_bytes:,}"
        raise ChangedError(f"it was replaced: the server has {sizes}")
    if found.tag and expected.tag and found.tag != expected.tag:
        raise ChangedError("it was replaced: the server has another version of the same size")


def _tag(response: urllib3.BaseHTTPResponse) -> str | None:
    """Return the strong ETag, or else the time of the last change; both are valid in `If-Range`."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified")


def _retry_after_seconds(text: str | None) -> float:
    """Return the seconds in a header `Retry-After`, which may be a number or a date."""
    if text is None:
        return 0.0
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return 0.0


def _error_of(error: Exception) -> TransientError | RemoteError:
    """Return what an error of the connection means, without any text of a library."""
    for cause in (error, *error.args):
        if isinstance(cause, RemoteError):  # of our own checks
            return cause
    if isinstance(error, LocationValueError):
        return RemoteError("the URL has no valid host")
    if isinstance(error, SSLError):
        return _tls_error(error)
    return TransientError(next(phrase for kinds, phrase in _PHRASES if isinstance(error, kinds)))


def _tls_error(error: SSLError) -> TransientError | RemoteError:
    cause = next((part for part in error.args if isinstance(part, ssl.SSLCertVerificationError)), None)
    if cause is None:
        return TransientError("the encrypted connection failed (TLS)")
    do = "name its authority in the environment variable SSL_CERT_FILE if you trust it"
    return RemoteError(f"the certificate of the server cannot be verified: {cause.verify_message}; {do}")


def _status_text(response: urllib3.BaseHTTPResponse) -> str:
    known = {status.value: status.phrase for status in HTTPStatus}
    return f"HTTP {response.status} {known.get(response.status, '')}".rstrip()


def _plain_text(url: Url) -> str:
    """Return the text of a URL without its user info, which is sent in a header."""
    return replace(url, user_info="").secret_text()


def _basic_authorization(url: Url) -> Mapping[str, str]:
    return make_headers(basic_auth=unquote(url.user_info)) if url.user_info else {}


def _drop(response: urllib3.BaseHTTPResponse) -> None:
    """Close the connection of an answer that is not read to its end."""
    with suppress(HTTPError, OSError):
        response.close()
