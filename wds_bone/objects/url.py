"""Represent the address of a file or prefix in object storage, without ever showing what is secret in it.

In: the text of a URL.
Out: a `Url`.
Invariant: `str`, `repr` and every error show neither user info nor query; only `secret_text` contains them.
"""

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Self
from urllib.parse import quote, unquote, urlsplit

from wds_bone.errors import ConfigError

SCHEMES = ("http", "https", "s3", "gs", "az", "hf")
"""The schemes that can be read, besides paths and `file`."""
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_ESCAPED_SLASH = "%2F"
_SAFE = "/!$&'()*+,;=:@~-._"  # RFC 3986, characters of a path


@dataclass(frozen=True, order=True)
class Url:
    """The address of a file or prefix in object storage.

    Attributes:
        scheme: one of `SCHEMES`.
        host: host and port of a server, or the name of a bucket or container.
        path: what follows the host, without a "/" at its start or end, decoded, except for "%2F", which separates
            no names.
        query: a signature or token, which also applies to the files next to this one; secret.
        user_info: user name and password; secret.
    """

    scheme: str
    host: str
    path: str
    query: str = field(default="", repr=False)
    user_info: str = field(default="", repr=False)

    @property
    def name(self) -> str:
        """The last part of the path; empty for a whole bucket or server."""
        return self.path.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The name without its suffix, as of a path."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """The end of the name from its last dot on, as of a path."""
        return PurePosixPath(self.name).suffix

    @property
    def parts(self) -> tuple[str, ...]:
        """The names between the slashes."""
        return tuple(filter(None, self.path.split("/")))

    @property
    def parent(self) -> Self:
        """The prefix that contains this file."""
        return self._with_path(self.path.rpartition("/")[0])

    def __truediv__(self, name: str) -> Self:
        return self._with_path(f"{self.path}/{name}".strip("/"))

    def __str__(self) -> str:
        return self._text() + "?..." * bool(self.query)

    def secret_text(self) -> str:
        """Return the whole URL, with its secrets; for clients only, never for a message or a file."""
        host = f"{self.user_info}@{self.host}" if self.user_info else self.host
        return self._text(host) + f"?{self.query}" * bool(self.query)

    def _text(self, host: str | None = None) -> str:
        return f"{self.scheme}://{self.host if host is None else host}/{_encode(self.path)}"

    def _with_path(self, path: str) -> Self:
        return type(self)(self.scheme, self.host, path, self.query, self.user_info)


def is_url(text: str) -> bool:
    """Return whether a text has the form of a URL of any scheme."""
    return _SCHEME.match(text) is not None


def parse_url(text: str) -> Url:
    """Return the URL in `text`; percent escapes in its path are decoded.

    Raises:
        ConfigError: if its scheme is not one of `SCHEMES`, or it has no host.
    """
    found = _SCHEME.match(text)
    scheme = found[1].lower() if found else ""
    if scheme not in SCHEMES:
        shown = f"{scheme[:20]}://..." if scheme else "this"
        expected = f"a path, or a URL of one of {', '.join(('file', *SCHEMES))}"
        raise ConfigError(f"{shown}: cannot be read", expected=expected, do="copy the files to one of these")
    try:
        parts = urlsplit(text)
        if scheme in ("http", "https"):
            parts.port  # noqa: B018  # raises an error if it is not a number
    except ValueError:  # its text may contain a secret
        do = "check the URL; in a password, write / as %2F, # as %23 and ? as %3F"
        raise ConfigError(f"{scheme}://...: is not a URL", expected=f"{scheme}://NAME/...", do=do) from None
    user_info, _, host = parts.netloc.rpartition("@")
    if not host:
        raise ConfigError(f"{scheme}://...: has no host or bucket", expected=f"{scheme}://NAME/...", do="check the URL")
    return Url(scheme, host, _decode(parts.path).strip("/"), parts.query, user_info)


def _decode(path: str) -> str:
    return _ESCAPED_SLASH.join(map(unquote, re.split(_ESCAPED_SLASH, path, flags=re.IGNORECASE)))


def _encode(path: str) -> str:
    return _ESCAPED_SLASH.join(quote(part, safe=_SAFE) for part in path.split(_ESCAPED_SLASH))
