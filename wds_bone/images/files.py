"""Find image files and read their bytes.

In: folders, or the path of one file.
Out: the path of each key, or the contents of the file and their format.
Invariant: the format follows from the contents, and a suffix that contradicts it is refused; a file is read once and
completely, and refused if it changes while it is read.
"""

import os
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Literal

from wds_bone.errors import ImageError

FileFormat = Literal["PNG", "JPEG", "TIFF", "DICOM"]

MAX_FILE_BYTES = 2**29
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


def find_images(folders: Iterable[str | Path]) -> dict[str, Path]:
    """Return the path of each image in `folders` and their subfolders by key, sorted by key.

    The key is the file name without suffix. Images are the files that end in .png, .jpg, .jpeg, .tif, .tiff or .dcm, in
    upper or lower case, and the files without suffix that contain DICOM. Hidden files and folders, links to folders and
    all other files are skipped.

    Raises:
        ImageError: if a folder cannot be read, two files have the same key, or there are no images.
    """
    found: dict[str, Path] = {}
    searched = [Path(folder) for folder in folders]
    for path in chain.from_iterable(map(_image_paths, searched)):
        if path.stem in found:
            raise _duplicate_key_error(path, found[path.stem])
        found[path.stem] = path
    if not found:
        where, expected = ", ".join(map(str, searched)), f"files ending in {' '.join(SUFFIXES)}"
        do = "pass the folders that contain the images to --images"
        raise ImageError(f"{where}: no images", expected=expected, got="none", do=do)
    return dict(sorted(found.items()))


def read_contents(path: Path) -> tuple[bytes, FileFormat]:
    """Return the bytes of an image file and their format.

    Raises:
        ImageError: if the file cannot be read, is empty or too large, changes while it is read, or has an unknown
            format or a different one than its suffix says.
    """
    contents = _read_unchanged(path)
    file_format, named = _detect_format(contents[:_HEAD_BYTES]), SUFFIXES.get(path.suffix.lower())
    if file_format is None or named not in (None, file_format):
        raise ImageError(
            f"{path}: not {f'a {named} image' if named else 'an image in a supported format'}",
            expected=named or "PNG, JPEG, TIFF or DICOM",
            got=file_format or f"bytes {contents[:16]!r}",
            do="fetch or export the file again, or rename it so that its suffix matches its contents",
        )
    return contents, file_format


def _image_paths(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    yield from _image_paths(folder / entry.name)
                elif entry.is_file() and _is_image(folder / entry.name):
                    yield folder / entry.name
    except OSError as error:
        raise _read_error(Path(error.filename or folder), error) from error


def _is_image(path: Path) -> bool:
    if path.suffix:
        return path.suffix.lower() in SUFFIXES
    with path.open("rb") as file:
        return _detect_format(file.read(_HEAD_BYTES)) == "DICOM"


def _detect_format(head: bytes) -> FileFormat | None:
    if head[128:132] == b"DICM":
        return "DICOM"
    matches = (file_format for signature, file_format in _SIGNATURES if head.startswith(signature))
    return next(matches, "DICOM" if _DICOM_WITHOUT_PREAMBLE.match(head) else None)


def _read_unchanged(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            before = os.fstat(file.fileno())
            contents = file.read(MAX_FILE_BYTES + 1)
            after = os.fstat(file.fileno())
    except OSError as error:
        raise _read_error(path, error) from error
    if len(contents) > MAX_FILE_BYTES:
        expected, got = f"at most {MAX_FILE_BYTES:,} bytes", f"{before.st_size:,} bytes"
        raise ImageError(f"{path}: the file is too large", expected=expected, got=got, do="leave the file out")
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or len(contents) != after.st_size:
        raise ImageError(
            f"{path}: the file changed while it was being read",
            expected=f"{before.st_size:,} bytes, modification time {before.st_mtime_ns} ns",
            got=f"{len(contents):,} bytes read, then {after.st_size:,} bytes, modification time {after.st_mtime_ns} ns",
            do="wait until the file is complete, then run the command again",
        )
    if not contents:
        do = "fetch or export the file again"
        raise ImageError(f"{path}: the file is empty", expected="an image", got="0 bytes", do=do)
    return contents


def _read_error(path: Path, error: OSError) -> ImageError:
    do = "check the path and its permissions"
    return ImageError(f"{path}: cannot be read", expected="a readable file or folder", got=error.strerror, do=do)


def _duplicate_key_error(path: Path, other: Path) -> ImageError:
    return ImageError(
        f"{path}: another image has the same key",
        expected=f"one image for the key {path.stem!r}",
        got=f"{other} and {path}",
        do="use only one of the folders, or rename one of the files",
    )
