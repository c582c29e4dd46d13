"""Tell what the answers and errors of HTTP servers mean.

In: answers, without their bodies; errors of a connection.
Out: ranges, versions; an error that ends a call, or a fault that may pass.
Invariant: no text of a library is shown, because it may contain a secret.
"""

import errno
import re
import socket
import ssl
import time
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.client import InvalidURL
from urllib.parse import urljoin, urlsplit

from wds_bone.objects.connections import Answer
from wds_bone.objects.protocol import ChangedError, RemoteError, Version
from wds_bone.objects.retries import TransientError

_MAY_PASS = (408, 425, 429, 500, 502, 503, 504)
_RANGE = re.compile(r"bytes (\d{1,18})-\d+/(\d{1,18})")
_LENGTH = re.compile(r"\d{1,18}")
_NO_RANGE = re.compile(r"bytes \*/(\d{1,18})")

_PHRASES: tuple[tuple[type[Exception], str], ...] = (
    (socket.gaierror, "the name of the host cannot be resolved"),
    (ConnectionRefusedError, "the connection is refused"),
    (TimeoutError, "the server sent nothing, or too little, for some time"),
    (ssl.SSLError, "the encrypted connection failed (TLS)"),
    (Exception, "the connection failed or was cut"),
)


def check_status(response: Answer, version: Version | None) -> None:
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


def stated_range(response: Answer) -> tuple[int, int]:
    """Return the first byte of an answer, and the size of the object."""
    content_range = response.headers.get("Content-Range", "")
    if response.status == 200 and (found := _LENGTH.fullmatch(response.headers.get("Content-Length", ""))):
        return 0, int(found[0])
    if response.status == 206 and (found := _RANGE.fullmatch(content_range)):
        return int(found[1]), int(found[2])
    if response.status == 416 and (found := _NO_RANGE.fullmatch(content_range)):
        return 0, int(found[1])
    raise RemoteError(f"the server does not state the size of the file (HTTP {response.status})")


def check_unchanged(found: Version, expected: Version) -> None:
    """Raise `ChangedError` if an object is no longer the expected version."""
    if found.num_bytes != expected.num_bytes:
        sizes = f"{found.num_bytes:,} bytes instead of {expected.num_bytes:,}"
        raise ChangedError(f"it was replaced: the server has {sizes}")
    if found.tag and expected.tag and found.tag != expected.tag:
        raise ChangedError("it was replaced: the server has another version of the same size")


def tag_of(response: Answer) -> str | None:
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


def redirect_target(url: str, location: str) -> str:
    """Return the URL to which a server redirects.

    Raises:
        RemoteError: if it is not one.
    """
    try:
        target = urljoin(url, location)
        urlsplit(target).port  # noqa: B018  # raises an error if it is not a number
    except ValueError:  # its text may contain a secret
        raise RemoteError("the server redirects to what is not a URL") from None
    return target


def error_of(error: Exception, *, is_first: bool = False) -> TransientError | RemoteError:
    """Return what an error of the connection means, without any text of a library."""
    if isinstance(error, RemoteError):  # of our own checks
        return error
    if isinstance(error, ssl.SSLCertVerificationError):
        do = "name its authority in the environment variable SSL_CERT_FILE if you trust it"
        return RemoteError(f"the certificate of the server cannot be verified: {error.verify_message}; {do}")
    if isinstance(error, ValueError | InvalidURL):
        return RemoteError("the URL is not valid")
    phrase = next(phrase for kind, phrase in _PHRASES if isinstance(error, kind))
    return TransientError(phrase, is_first=is_first)


def _status_text(response: Answer) -> str:
    known = {status.value: status.phrase for status in HTTPStatus}
    return f"HTTP {response.status} {known.get(response.status, '')}".rstrip()
