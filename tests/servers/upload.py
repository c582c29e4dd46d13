"""Put a file on a server."""

import urllib.error
import urllib.request
from collections.abc import Mapping

_CONFLICT = 409


def upload(url: str, contents: bytes = b"", *, method: str = "PUT", headers: Mapping[str, str] | None = None) -> None:
    """Put an object, or create a bucket; one that exists already stays as it is."""
    request = urllib.request.Request(
        url, contents, {"Content-Type": "application/octet-stream", **(headers or {})}, method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            response.read()
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != _CONFLICT:
            raise
