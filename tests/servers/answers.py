"""Answers to HTTP requests: from the files of a folder, or from another server.

In: a `Request`.
Out: an `Answer`, with its whole contents in memory.
"""

import hashlib
import http.client
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_OF_ONE_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


@dataclass(frozen=True)
class Request:
    """A request: its path without the query, its headers as they were sent."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)

    def header(self, name: str) -> str | None:
        """Return a header, whatever the case of its name."""
        return {key.lower(): value for key, value in self.headers.items()}.get(name.lower())


@dataclass(frozen=True)
class Answer:
    """An answer: its status, headers and contents."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def first_byte(self) -> int:
        """The position of the first byte of the contents within the object."""
        content_range = {name.lower(): value for name, value in self.headers.items()}.get("content-range", "")
        match = re.match(r"bytes (\d+)-", content_range)
        return int(match[1]) if match else 0


def answer_from_folder(folder: Path) -> Callable[[Request], Answer]:
    """Return what answers from the files of a folder, like a good server."""

    def answer(request: Request) -> Answer:
        path = folder / unquote(request.path).lstrip("/")
        if not path.is_file():
            return Answer(404, {"Content-Type": "text/html"}, b"<html>not found</html>")
        contents = path.read_bytes()
        etag = f'"{hashlib.sha256(contents).hexdigest()[:16]}"'
        headers = {"ETag": etag, "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        return _ranged(contents, request, headers)

    return answer


def _ranged(contents: bytes, request: Request, headers: dict[str, str]) -> Answer:
    """Return the whole contents, or the range that was asked for."""
    match = _RANGE.fullmatch(request.header("Range") or "")
    if match is None or not any(match.groups()) or request.header("If-Range") not in (None, headers["ETag"]):
        return Answer(200, headers, contents)
    size = len(contents)
    start = int(match[1]) if match[1] else max(0, size - int(match[2]))
    stop = min(size, int(match[2]) + 1) if match[1] and match[2] else size
    if start >= stop:
        return Answer(416, {**headers, "Content-Range": f"bytes */{size}"}, b"")
    return Answer(206, {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{size}"}, contents[start:stop])


def answer_from_server(url: str) -> Callable[[Request], Answer]:
    """Return what passes requests on to a server, which sees its own address in them."""
    host = urlsplit(url).netloc

    def answer(request: Request) -> Answer:
        connection = http.client.HTTPConnection(host, timeout=60)
        try:
            target = f"{request.path}?{request.query}" if request.query else request.path
            kept = [
                (name, value) for name, value in request.headers.items() if name.lower() not in ("connection", "host")
            ]
            headers = {name: value.replace(f"//{request.header('Host')}/", f"//{host}/") for name, value in kept}
            connection.request(request.method, target, request.body or None, headers)
            response = connection.getresponse()
            return Answer(response.status, _passed_on(request, response), response.read())
        finally:
            connection.close()

    return answer


def _passed_on(request: Request, response: http.client.HTTPResponse) -> dict[str, str]:
    headers = {name: value for name, value in response.getheaders() if name.lower() not in _OF_ONE_CONNECTION}
    if request.method == "HEAD" and (length := response.getheader("Content-Length")):
        headers["Content-Length"] = length
    return headers
