"""Read objects from HTTP servers.

In: URLs of the schemes `http` and `https`, byte ranges.
Out: bytes, sizes, versions.
Invariant: bytes of two versions of an object are never joined; the number of bytes is always compared with what the
server stated; redirects are followed only where `access` allows it, and never with credentials to another host.
"""

import io
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from http.client import HTTPException
from typing import BinaryIO
from urllib.parse import unquote

from wds_bone.objects.access import check_redirect, is_same_host
from wds_bone.objects.answers import check_status, check_unchanged, error_of, redirect_target, stated_range, tag_of
from wds_bone.objects.connections import Answer, Connections
from wds_bone.objects.protocol import RemoteError, Traffic, Version
from wds_bone.objects.retries import Download, Retries, TransientError
from wds_bone.objects.sequential import SequentialFile
from wds_bone.objects.url import Url

MAX_REDIRECTS = 5
SKIPPED_AT_ONCE_BYTES = 2**20
REMEMBERED_SECONDS = 300.0
_REDIRECTS = (301, 302, 303, 307, 308)
_MAY_HAVE_EXPIRED = (401, 403, 404, 410)
_NO_LISTS = "the files of a folder cannot be listed over HTTP"
_NOT_WRITTEN = "files cannot be written over HTTP"


class HttpObjects:
    """The objects of all HTTP servers.

    Args:
        any_host: whether redirects to any host are allowed.
        headers: returns the headers for a URL, which are not sent to other hosts; by default, its user info.
    """

    def __init__(self, *, any_host: bool = False, headers: Callable[[Url], Mapping[str, str]] | None = None) -> None:
        self.traffic = Traffic()
        self._any_host, self._headers = any_host, headers or _basic_authorization
        self._connections = Connections()
        self._closed = threading.Event()
        self._known: set[str] = set()  # servers that have answered
        self._targets: dict[str, tuple[str, float]] = {}  # where requests were redirected to, and until when

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
        raise RemoteError(_NO_LISTS)

    def sizes(self, prefix: Url, *, recursive: bool = True) -> Mapping[str, int]:  # noqa: ARG002
        """Raise an error, because HTTP has no lists."""
        raise RemoteError(_NO_LISTS)

    def write(self, url: Url, contents: bytes | BinaryIO, *, only_if_absent: bool = False) -> None:  # noqa: ARG002
        """Raise an error, because nothing is written over HTTP."""
        raise RemoteError(_NOT_WRITTEN)

    def copy(self, source: Url, target: Url) -> None:  # noqa: ARG002
        """Raise an error, because nothing is written over HTTP."""
        raise RemoteError(_NOT_WRITTEN)

    def delete(self, url: Url) -> None:  # noqa: ARG002
        """Raise an error, because nothing is deleted over HTTP."""
        raise RemoteError("files cannot be deleted over HTTP")

    def close(self) -> None:
        """Give up all connections."""
        self._closed.set()
        self._connections.close()

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
            check_status(response, version)
            return _HttpBody(response, self.traffic, start=start, version=version)
        except BaseException:
            response.close()
            raise

    def _follow(self, url: Url, headers: dict[str, str]) -> Answer:
        """Return the answer to a request that may be redirected, first to where the last one was."""
        first = _plain_text(url)
        target, expiry = self._targets.get(first, (first, 0.0))
        if time.monotonic() < expiry:
            response = self._ask(url, target, headers)
            if response.status not in (*_REDIRECTS, *_MAY_HAVE_EXPIRED):
                return response
            response.close()
        return self._follow_from(url, first, headers)

    def _follow_from(self, url: Url, first: str, headers: dict[str, str]) -> Answer:
        text = first
        for _ in range(MAX_REDIRECTS + 1):
            response = self._ask(url, text, headers)
            if response.status not in _REDIRECTS:
                if text != first:
                    self._targets[first] = text, time.monotonic() + REMEMBERED_SECONDS
                return response
            response.close()
            target = redirect_target(text, response.headers.get("Location", ""))
            check_redirect(text, target, any_host=self._any_host)
            text = target
        raise RemoteError(f"the server redirects more than {MAX_REDIRECTS} times")

    def _ask(self, url: Url, text: str, headers: dict[str, str]) -> Answer:
        """Return the answer for the address `text`, to which `url` or a redirect leads."""
        return self._get(text, headers | dict(self._headers(url)) if is_same_host(_plain_text(url), text) else headers)

    def _get(self, text: str, headers: Mapping[str, str]) -> Answer:
        if self._closed.is_set():
            raise RemoteError("the connection was closed")
        server = text.split("/", 3)[2]
        try:
            answer = self._connections.get(text, headers)
        except TransientError as fault:  # of a proxy
            fault.is_first = server not in self._known
            raise
        except (HTTPException, OSError, ValueError) as error:
            cause = error if isinstance(error, OSError) else None  # the text of others may contain the query
            raise error_of(error, is_first=server not in self._known) from cause
        self._known.add(server)
        return answer


class _HttpBody:
    """The body of an answer, from byte `start` of the object on."""

    def __init__(self, response: Answer, traffic: Traffic, *, start: int, version: Version | None) -> None:
        self._response, self._traffic = response, traffic
        first, num_bytes = stated_range(response)
        self.version = Version(num_bytes, tag_of(response))
        if version is not None:
            check_unchanged(self.version, version)
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

    def close(self) -> None:
        self._response.close()

    def _read(self, max_bytes: int) -> bytes:
        try:
            found = self._response.read(max_bytes)
        except (HTTPException, OSError) as error:
            raise error_of(error) from error
        self._traffic.add(num_bytes=len(found))
        return found


def _plain_text(url: Url) -> str:
    """Return the text of a URL without its user info, which is sent in a header."""
    return replace(url, user_info="").secret_text()


def _basic_authorization(url: Url) -> Mapping[str, str]:
    return {"Authorization": f"Basic {b64encode(unquote(url.user_info).encode()).decode()}"} if url.user_info else {}
