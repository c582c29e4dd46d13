"""Remove from texts what is secret in URLs: user names, passwords, signatures and tokens.

In: any text.
Out: the text, in which `https://user:password@host/train.tar?sig=...` reads `https://host/train.tar?...`.
Invariant: a text that was redacted before, or contains no URL, is not changed.
"""

import re

HIDDEN = "?..."
"""What stands in a URL for a query or a fragment."""
_SCHEME = r"\b(?!file:)([A-Za-z][A-Za-z0-9+.-]*://)"
_END = r"(?=[:,;.)]*(?:[\s'\"]|$))"  # a URL in a sentence ends before its punctuation
_USER = re.compile(_SCHEME + r"[^/?#\s'\"]*@")
_NO_PORT = re.compile(_SCHEME + r"([^/?#\s'\"\[:]*):(?!\d*(?:[/?#\s'\":,;.)]|$))[^\s'\"]*?" + _END)
_QUERY = re.compile(_SCHEME + r"([^?#\s'\"]*)[?#](?!\.\.\.(?:[\s'\":,;.)]|$))[^\s'\"]*?" + _END)
_PARAMETERS = re.compile(r"\?[\w.%-]+=[^\s'\"]*?" + _END)


def redact(text: str) -> str:
    """Return a text in which no URL has a user name, a password, a query or a fragment.

    A password with unescaped characters, such as `#`, hides the rest of its URL. Parameters such as `?sig=...` are also
    removed from what is not a URL, because its scheme is missing or its path contains a space.
    """
    text = _USER.sub(r"\1", text)
    text = _NO_PORT.sub(r"\1\2:...", text)
    text = _QUERY.sub(rf"\1\2{HIDDEN}", text)
    return _PARAMETERS.sub(HIDDEN, text)
