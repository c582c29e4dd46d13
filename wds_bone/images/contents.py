"""Read the bytes of an image file, and find out their format.

In: the path or URL of a file.
Out: its contents and their format.
Invariant: the format follows from the contents, and a suffix that contradicts it is refused; a file is read once and
completely, and refused if it changes while it is read. Only regular files are opened.
"""

import os
import re
import stat
from pathlib import Path
from typing import BinaryIO, Literal

from wds_bone.errors import ImageError, WdsBoneError
from wds_bone.objects.protocol import RemoteError, TooLargeError
from wds_bone.objects.url import Url
from wds_bone.storage.location import Location, open_file
from wds_bone.storage.remote_files import read_file

FileFormat = Literal["PNG", "JPEG", "TIFF", "DICOM"]

MAX_FILE_BYTES = 2**28
SUFFIXES: dict[str, FileFormat] = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".dcm": "DICOM",
}
_SIGNATURES: tuple[tuple[bytes, FileFormat], ...] = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)
_HEAD_BYTES = 132
# DICOM without preamble starts with an element of group 0002 or 0008: a tag, then a VR or the high half of a length.
_DICOM_WITHOUT_PREAMBLE = re.compile(rb"\A[\x02\x08]\x00.\x00(?:[A-Z]{2}|..\x00\x00)", re.DOTALL)


def read_contents(path: Location) -> tuple[bytes, FileFormat]:
    """Return the bytes of an image file and their format.

    Raises:
        ImageError: if the file cannot be read, is empty or too large, changes while it is read, or has an unknown
            format or a different one than its suffix says.
        WdsBoneError: if an object store does not deliver the file.
    """
    contents = _read_unchanged(path) if isinstance(path, Path) else _read_object(path)
    if not contents:
        do = "fetch or export the file again"
        raise ImageError(f"{path}: the file is empty", expected="an image", got="0 bytes", do=do)
    file_format, named = _detect_format(contents[:_HEAD_BYTES]), SUFFIXES.get(path.suffix.lower())
    if file_format is None or named not in (None, file_format):
        raise ImageError(
            f"{path}: not {f'a {named} image' if named else 'an image in a supported format'}",
            expected=named or "PNG, JPEG, TIFF or DICOM",
            got=file_format or f"bytes {contents[:16]!r}",
            do="fetch or export the file again, or rename it so that its suffix matches its contents",
        )
    return contents, file_format


def read_head(path: Path, num_bytes: int) -> tuple[bytes, FileFormat | None]:
    """Return the first bytes of a file and its format, None if that is unknown.

    Raises:
        ImageError: if the file cannot be read or is not regular.
    """
    try:
        with _open_regular(path) as file:
            head = file.read(num_bytes)
    except (OSError, ValueError) as error:
        raise error if isinstance(error, ImageError) else read_error(path, error) from error
    return head, _detect_format(head)


def has_image_suffix(path: Location) -> bool:
    """Return whether the suffix of a file is that of an image, in upper or lower case."""
    return path.suffix.lower() in SUFFIXES


def starts_as_image(path: Location) -> bool:
    """Return whether a file starts as images do; for one that cannot be read too, because reading it says why.

    A file that is not regular, such as a FIFO, is not an image.
    """
    try:
        with _open_regular(path) as file:
            return _detect_format(file.read(_HEAD_BYTES)) is not None
    except ImageError:
        return False
    except OSError:
        return True


def read_error(path: Location, error: OSError | ValueError) -> ImageError:
    """Return the error for a file that cannot be read; a ValueError means that its name contains a NUL."""
    got = error.strerror if isinstance(error, OSError) else error
    do = "check the path and its permissions"
    return ImageError(f"{path}: cannot be read", expected="a readable file or folder", got=got, do=do)


def _detect_format(head: bytes) -> FileFormat | None:
    if head[128:132] == b"DICM":
        return "DICOM"
    matches = (file_format for signature, file_format in _SIGNATURES if head.startswith(signature))
    return next(matches, "DICOM" if _DICOM_WITHOUT_PREAMBLE.match(head) else None)


def _open_regular(path: Location) -> BinaryIO:
    """Open a regular file; a FIFO would block, and opening a device can have any effect.

    Raises:
        ImageError: if it is something else.
        OSError: if it cannot be opened.
    """
    if isinstance(path, Url):
        return open_file(path)
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        is_folder = stat.S_ISDIR(mode)
        kind = "folder" if is_folder else "FIFO" if stat.S_ISFIFO(mode) else "device or socket"
        do = f"name the films in it, such as {path}/*.png" if is_folder else "copy the film into a file"
        raise ImageError(f"{path}: a {kind} instead of a film", expected="a regular file", got=f"a {kind}", do=do)
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))


def _read_unchanged(path: Path) -> bytes:
    try:
        with _open_regular(path) as file:
            before = os.fstat(file.fileno())
            contents = file.read(before.st_size + 1) if before.st_size <= MAX_FILE_BYTES else b""
            after = os.fstat(file.fileno())
    except ImageError:
        raise
    except (OSError, ValueError) as error:
        raise read_error(path, error) from error
    if before.st_size > MAX_FILE_BYTES:
        expected, got = f"at most {MAX_FILE_BYTES:,} bytes", f"{before.st_size:,} bytes"
        raise ImageError(f"{path}: the file is too large", expected=expected, got=got, do="leave the file out")
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or len(contents) != after.st_size:
        raise ImageError(
            f"{path}: the file changed while it was being read",
            expected=f"{before.st_size:,} bytes, modification time {before.st_mtime_ns} ns",
            got=f"{len(contents):,} bytes read, then {after.st_size:,} bytes, modification time {after.st_mtime_ns} ns",
            do="wait until the file is complete, then run the command again",
        )
    return contents


def _read_object(url: Url) -> bytes:
    try:
        return read_file(url, max_bytes=MAX_FILE_BYTES)
    except OSError as error:
        if isinstance(error, RemoteError) and not isinstance(error, TooLargeError):
            raise _store_error(url, error) from error
        raise read_error(url, error) from error


def _store_error(url: Url, error: RemoteError) -> WdsBoneError:
    """Return the error for a film that the store did not deliver; it is no bad film, which could be left out."""
    do = "check the connection and the store, and run the command again"
    return WdsBoneError(f"{url}: cannot be read", expected="an answer", got=error.strerror, do=do)
