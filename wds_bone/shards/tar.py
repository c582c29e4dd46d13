"""Read a tar strictly, as a sequence of regular files; anything that no shard writer writes is an error.

In: an open shard.
Out: its members in order, each read once.
Invariant: every byte of the file is checked, nothing is extracted, and memory is bounded whatever the headers say.

Accepted formats: USTAR, and PAX headers that only carry times, as `webdataset.ShardWriter` writes them. Specification:
POSIX.1-2017, pax, "ustar Interchange Format". Python's `tarfile` is not used, because it follows links and sparse maps
and does not limit sizes.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from wds_bone.errors import ShardError

BLOCK_BYTES = 512
MAX_MEMBER_BYTES = 64 * 2**20
_ZERO_BLOCK = bytes(BLOCK_BYTES)
_TIME_RECORD = re.compile(rb"[0-9]+ [acm]time=[0-9.]+\n")
_OCTAL = re.compile(rb"[0-7]*[ \0]*")
_CHECKSUM = re.compile(rb"[0-7]{6}\0 ")


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file in a tar; `offset` is the position of its contents in the tar, in bytes."""

    name: str
    offset: int
    contents: bytes


class _Digest(Protocol):
    def update(self, chunk: bytes, /) -> None: ...


def members(shard: BinaryIO, path: str, *, digest: _Digest) -> Iterator[Member]:
    """Yield the members of `shard` in order, and update `digest` with every byte of the file.

    Raises:
        ShardError: if the tar is damaged or is not a shard; the error gives the byte offset.
    """
    reader = _TarReader(shard, path, digest)
    while (header := reader.header()) is not None:
        offset, name, size, type_flag = header
        contents = reader.contents(size)
        if type_flag == b"x":
            reader.check_times(contents, offset)
            continue
        yield Member(name, offset + BLOCK_BYTES, contents)
    reader.check_end()


class _TarReader:
    """Read headers and contents in sequence, and hash each byte once."""

    def __init__(self, shard: BinaryIO, path: str, digest: _Digest) -> None:
        self._shard, self._path, self._digest = shard, path, digest
        self._position = 0
        self._file_bytes = shard.seek(0, 2)
        shard.seek(0)

    def header(self) -> tuple[int, str, int, bytes] | None:
        """Return (offset, name, size, type flag) of the next member, or None at the first zero block."""
        offset = self._position
        block = self._read(BLOCK_BYTES)
        if block == _ZERO_BLOCK:
            return None
        if block[257:265] != b"ustar\x0000":
            raise self._error(offset, "a USTAR header", repr(block[257:265]))
        self._check_header(block, offset)
        type_flag = block[156:157]
        if type_flag not in (b"0", b"\0", b"x"):
            raise self._error(offset, "a regular file", f"a member of type {type_flag!r}")
        return offset, self._name(block, offset), self._size(block, offset), type_flag

    def contents(self, size: int) -> bytes:
        """Return the next `size` bytes and skip the padding after them, which must be zero."""
        contents = self._read(size)
        padding = self._read(-size % BLOCK_BYTES)
        if padding.strip(b"\0"):
            raise self._error(self._position - len(padding), "zero padding", "other bytes")
        return contents

    def check_times(self, records: bytes, offset: int) -> None:
        """Refuse PAX records other than times, because they may rename or resize the next member."""
        if _TIME_RECORD.sub(b"", records):
            raise self._error(offset, "only time records in a PAX header", repr(records[:80]))

    def check_end(self) -> None:
        """Refuse a tar without a second zero block, or with anything but zeros after it."""
        if self._read(BLOCK_BYTES) != _ZERO_BLOCK:
            raise self._error(self._position - BLOCK_BYTES, "two zero blocks at the end", "other bytes")
        while self._position < self._file_bytes:
            offset = self._position
            if self._read(min(2**20, self._file_bytes - offset)).strip(b"\0"):
                raise self._error(offset, "nothing after the end of the tar", "more bytes")

    def _read(self, size: int) -> bytes:
        if size > self._file_bytes - self._position:
            wanted, found = f"at least {self._position + size:,} bytes", f"{self._file_bytes:,} bytes"
            raise self._error(self._position, wanted, found)
        chunk = self._shard.read(size)
        if len(chunk) != size:
            raise self._error(
                self._position, f"{size:,} more bytes", f"{len(chunk):,} (the file changed while it was read)"
            )
        self._position += size
        self._digest.update(chunk)
        return chunk

    def _check_header(self, block: bytes, offset: int) -> None:
        checksum = sum(block[:148]) + sum(block[156:]) + 8 * ord(" ")
        if not _CHECKSUM.fullmatch(block[148:156]) or int(block[148:154], 8) != checksum:
            raise self._error(offset, f"a header with checksum {checksum:06o}", repr(block[148:156]))

    def _name(self, block: bytes, offset: int) -> str:
        name, prefix = (field.split(b"\0", 1)[0] for field in (block[:100], block[345:500]))
        try:
            return (prefix + b"/" + name if prefix else name).decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._error(offset, "a name in UTF-8", repr(name)) from error

    def _size(self, block: bytes, offset: int) -> int:
        size = self._octal(block[124:136], offset)
        if size > MAX_MEMBER_BYTES:
            raise self._error(offset, f"a member of at most {MAX_MEMBER_BYTES:,} bytes", f"{size:,} bytes")
        return size

    def _octal(self, field: bytes, offset: int) -> int:
        if not _OCTAL.fullmatch(field):
            raise self._error(offset, "an octal number", repr(field))
        return int(field.rstrip(b" \0") or b"0", 8)

    def _error(self, offset: int, expected: str, got: str) -> ShardError:
        return ShardError(
            f"{self._path}: not a wds_bone shard: mismatch at byte {offset:,}",
            expected=expected,
            got=got,
            do="fetch or rebuild the shard, or repack a foreign tar with `tar --format=ustar`",
        )
