"""Build valid and invalid tars for the tests of the strict reader."""

import io
import json
import tarfile
from collections.abc import Iterable

import numpy as np

from wds_bone.shards.encoding import encode_image

BLOCK = 512
LABEL = json.dumps({"age_months": 94, "gender": "F"}).encode()
END = bytes(2 * BLOCK)


def image(size: int = 4, encoding: str = "npy") -> bytes:
    """Return the contents of a small image member."""
    return encode_image(np.full((size, size), 7, np.uint8), encoding)  # type: ignore[arg-type]


def sample(key: str = "hand-1") -> list[tuple[str, bytes]]:
    """Return the members of one valid sample."""
    return [(f"{key}.npy", image()), (f"{key}.json", LABEL)]


def header(name: bytes = b"hand-1.json", size: bytes = b"00000000000\0", kind: bytes = b"0", **fields: bytes) -> bytes:
    """Return a USTAR header of 512 bytes with a valid checksum; `size` is the raw field."""
    block = bytearray(BLOCK)
    block[0 : len(name)] = name
    block[100:124] = b"0000444\0" * 3
    block[124:136] = size
    block[136:148] = b"00000000000\0"
    block[156:157] = kind
    block[257:265] = fields.get("magic", b"ustar\x0000")
    link, prefix = fields.get("link", b""), fields.get("prefix", b"")
    block[157 : 157 + len(link)] = link
    block[345 : 345 + len(prefix)] = prefix
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def member(name: str, contents: bytes, kind: bytes = b"0") -> bytes:
    """Return a header followed by the padded contents."""
    padding = bytes(-len(contents) % BLOCK)
    return header(name.encode(), b"%011o\0" % len(contents), kind) + contents + padding


def tar_of(members: Iterable[tuple[str, bytes]]) -> bytes:
    """Return a complete tar of `members`."""
    return b"".join(member(name, contents) for name, contents in members) + END


def tarfile_of(members: Iterable[tuple[str, bytes]], tar_format: int, mtime: float = 0) -> bytes:
    """Return a tar of `members`, written by Python's tarfile."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as tar:
        for name, contents in members:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(contents), mtime
            tar.addfile(entry, io.BytesIO(contents))
    return buffer.getvalue()
