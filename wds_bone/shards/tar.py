"""Read a tar strictly, as a sequence of regular files; anything that a shard cannot contain is an error.

In: an open shard.
Out: its members in order, each read once.
Invariant: every byte of the file is checked, nothing is extracted, and memory is bounded whatever the headers say.

Accepted formats: USTAR, GNU without long names, and PAX with records of times, owners and paths. Directories are passed
over. Specifications: POSIX.1-2017, pax, "ustar Interchange Format"; the GNU tar manual, "Basic Tar Format". Python's
`tarfile` is not used, because it follows links and sparse maps and does not limit sizes.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple, Protocol

from wds_bone.errors import ShardError
from wds_bone.shards.repacking import do_about_file, do_about_member, file_kind, member_kind

BLOCK_BYTES = 512
END_BYTES = 2 * BLOCK_BYTES
"""The size of the mark at the end of a tar, in bytes."""
MAX_MEMBER_BYTES = 64 * 2**20
"""The size of the largest member that is kept in memory, in bytes."""
_MAX_PAX_BYTES = 4096
_CHUNK_BYTES = 2**20
_ZERO_BLOCK = bytes(BLOCK_BYTES)
_FILE_FLAGS, _FOLDER_FLAG, _PAX_FLAG = (b"0", b"\0"), b"5", b"x"
_USTAR, _GNU = b"ustar\x0000", b"ustar  \0"
_PAX_NAMES = {b"mtime", b"atime", b"ctime", b"uid", b"gid", b"uname", b"gname", b"path"}
_PAX_LENGTH = re.compile(rb"([1-9][0-9]{0,3}) ")
_OCTAL = re.compile(rb"[0-7]*[ \0]*")
_CHECKSUM = re.compile(rb"[0-7]{6}\0 ")


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file in a tar.

    Attributes:
        name: the name, as it is in the tar.
        offset: position of the contents in the tar, in bytes.
        contents: the contents; empty for a member that is not wanted.
    """

    name: str
    offset: int
    contents: bytes


class _Digest(Protocol):
    def update(self, chunk: bytes, /) -> None: ...


class _Header(NamedTuple):
    offset: int
    name: str
    size: int
    flag: bytes


def members(
    shard: BinaryIO, path: str, *, digest: _Digest, is_wanted: Callable[[str], bool] = lambda _: True
) -> Iterator[Member]:
    """Yield the regular files of `shard` in order, and update `digest` with every byte of the tar.

    Args:
        shard: an open tar.
        path: its path, for error messages.
        digest: a hash object.
        is_wanted: whether to keep the contents of a member of this name; others are hashed in small pieces.

    Raises:
        ShardError: if the tar is damaged or is not a shard; the error gives the byte offset.
    """
    reader = _TarReader(shard, path, digest)
    while (header := reader.header()) is not None:
        name = header.name
        if header.flag == _PAX_FLAG:
            pax_path, header = reader.pax_path(header), reader.header_after(header)
            name = pax_path or header.name
        if header.flag == _FOLDER_FLAG or name.endswith("/"):
            reader.check_folder(header)
            continue
        contents = reader.contents(header) if is_wanted(name) else reader.skip(header)
        yield Member(name, header.offset + BLOCK_BYTES, contents)
    reader.check_end()


class _TarReader:
    """Read headers and contents in sequence, and hash each byte once."""

    def __init__(self, shard: BinaryIO, path: str, digest: _Digest) -> None:
        self._shard, self._path, self._digest = shard, path, digest
        self._position = 0
        self._file_bytes = shard.seek(0, 2)
        shard.seek(0)

    def header(self) -> _Header | None:
        """Return the next header, or None at the first zero block."""
        offset = self._position
        block = self._read(BLOCK_BYTES)
        if block == _ZERO_BLOCK:
            return None
        magic = block[257:265]
        if magic not in (_USTAR, _GNU):
            raise self._format_error(block, offset)
        if not _has_checksum(block):
            raise self._error(offset, f"a header with checksum {_checksum(block):06o}", repr(block[148:156]))
        flag, name = block[156:157], self._name(block, offset, has_prefix=magic == _USTAR)
        if flag not in (*_FILE_FLAGS, _FOLDER_FLAG, _PAX_FLAG):
            kind = member_kind(flag)
            raise self._error(offset, "a file", f"{kind}, {name!r}", do=do_about_member(self._path, flag, name))
        return _Header(offset, name, self._size(block, offset), flag)

    def contents(self, header: _Header) -> bytes:
        """Return the contents of a member, and skip the padding after them, which must be zero."""
        if header.size > MAX_MEMBER_BYTES:
            expected, got = f"a member of at most {MAX_MEMBER_BYTES:,} bytes", f"{header.name!r}: {header.size:,} bytes"
            raise self._error(header.offset, expected, got)
        contents = self._read(header.size)
        self._skip_padding(header.size)
        return contents

    def skip(self, header: _Header) -> bytes:
        """Hash the contents of a member and the padding after them, and return nothing."""
        for start in range(0, header.size, _CHUNK_BYTES):
            self._read(min(_CHUNK_BYTES, header.size - start))
        self._skip_padding(header.size)
        return b""

    def pax_path(self, header: _Header) -> str | None:
        """Return the path in the records of a PAX header; None if there is none.

        Records that change anything else about the next member, such as its size, are refused.
        """
        if header.size > _MAX_PAX_BYTES:
            got = f"{header.size:,} bytes"
            raise self._pax_error(header, f"a PAX header of at most {_MAX_PAX_BYTES:,} bytes", got)
        records, path, start = self.contents(header), None, 0
        while start < len(records):
            length = _PAX_LENGTH.match(records, start)
            end = start + int(length[1]) if length else start
            name, equals, value = records[length.end() if length else start : end].partition(b"=")
            if not equals or value[-1:] != b"\n" or end > len(records) or name not in _PAX_NAMES:
                expected = "only times, owners and paths in a PAX header"
                raise self._pax_error(header, expected, repr(records[start : start + 80]))
            path = self._decode(value[:-1], header.offset) if name == b"path" else path
            start = end
        return path

    def header_after(self, pax: _Header) -> _Header:
        """Return the header of the member that a PAX header belongs to."""
        header = self.header()
        if header is None or header.flag == _PAX_FLAG:
            raise self._pax_error(pax, "a file after its PAX header", "none")
        return header

    def check_folder(self, header: _Header) -> None:
        """Refuse a folder with contents."""
        if header.size:
            raise self._error(header.offset, "a folder without contents", f"{header.name!r}: {header.size:,} bytes")

    def check_end(self) -> None:
        """Refuse a tar without a second zero block, or with anything but zeros after it."""
        if self._read(BLOCK_BYTES) != _ZERO_BLOCK:
            raise self._error(self._position - BLOCK_BYTES, "two zero blocks at the end", "other bytes")
        while self._position < self._file_bytes:
            offset = self._position
            if self._read(min(_CHUNK_BYTES, self._file_bytes - offset)).strip(b"\0"):
                raise self._error(offset, "nothing after the end of the tar", "more bytes")

    def _read(self, size: int) -> bytes:
        if size > self._file_bytes - self._position:
            wanted, found = f"at least {self._position + size:,} bytes", f"{self._file_bytes:,} bytes"
            kind = file_kind(self._shard.read(BLOCK_BYTES)) if self._position == 0 else None
            got = f"{found} of {kind} data" if kind else found
            raise self._error(self._position, wanted, got, do=do_about_file(self._path, kind))
        chunk = self._shard.read(size)
        if len(chunk) != size:
            raise self._error(
                self._position, f"{size:,} more bytes", f"{len(chunk):,} (the file changed while it was read)"
            )
        self._position += size
        self._digest.update(chunk)
        return chunk

    def _skip_padding(self, size: int) -> None:
        padding = self._read(-size % BLOCK_BYTES)
        if padding.strip(b"\0"):
            raise self._error(self._position - len(padding), "zero padding", "other bytes")

    def _format_error(self, block: bytes, offset: int) -> ShardError:
        if _has_checksum(block):
            do = do_about_member(self._path, block[156:157], self._name(block, offset, has_prefix=False))
            return self._error(offset, "a header in the USTAR, GNU or PAX format", "one in another format", do=do)
        kind = file_kind(block) if offset == 0 else None
        got = f"{kind} data" if kind else repr(block[257:265])
        return self._error(offset, "a tar header", got, do=do_about_file(self._path, kind))

    def _name(self, block: bytes, offset: int, *, has_prefix: bool) -> str:
        # GNU tar keeps times where USTAR has the prefix of long names.
        name, prefix = (field.split(b"\0", 1)[0] for field in (block[:100], block[345:500] if has_prefix else b""))
        return self._decode(prefix + b"/" + name if prefix else name, offset)

    def _decode(self, name: bytes, offset: int) -> str:
        try:
            return name.decode("utf-8")
        except UnicodeDecodeError as error:
            do = "rename the file, and write the tar again"
            raise self._error(offset, "a name in UTF-8", repr(name), do=do) from error

    def _size(self, block: bytes, offset: int) -> int:
        field = block[124:136]
        if not _OCTAL.fullmatch(field):
            raise self._error(offset, "a size as an octal number", repr(field))
        return int(field.rstrip(b" \0") or b"0", 8)

    def _pax_error(self, header: _Header, expected: str, got: str) -> ShardError:
        return self._error(header.offset, expected, got, do=do_about_member(self._path, header.flag, header.name))

    def _error(self, offset: int, expected: str, got: str, *, do: str | None = None) -> ShardError:
        return ShardError(
            f"{self._path}: not a wds_bone shard: mismatch at byte {offset:,}",
            expected=expected,
            got=got,
            do=do or "fetch or rebuild the shard",
        )


def _has_checksum(block: bytes) -> bool:
    return _CHECKSUM.fullmatch(block[148:156]) is not None and int(block[148:154], 8) == _checksum(block)


def _checksum(block: bytes) -> int:
    return sum(block[:148]) + sum(block[156:]) + 8 * ord(" ")
