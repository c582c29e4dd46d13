"""Find image files and read their bytes.

In: folders, or one path. Out: key -> path, or the contents and their kind. Invariant: the kind is what the contents
say, and a name that says otherwise is refused; contents are read once, whole, and only if the file stands still.
"""

import os
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Literal

from wds_bone.errors import ImageError

Kind = Literal["PNG", "JPEG", "TIFF", "DICOM"]

MAX_FILE_BYTES = 2**29
SUFFIXES: dict[str, Kind] = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".dcm": "DICOM",
}
_SIGNATURES: tuple[tuple[bytes, Kind], ...] = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)
_HEAD_BYTES = 132
# DICOM without preamble starts with an element of group 0002 or 0008: a tag, then a VR or the high half of a length.
_BARE_DICOM = re.compile(rb"\A[\x02\x08]\x00.\x00(?:[A-Z]{2}|..\x00\x00)", re.DOTALL)


def find_images(folders: Iterable[str | Path]) -> dict[str, Path]:
    """Return the images in `folders` and the folders inside, by key (the file's name without suffix), sorted by key.

    Files ending in .png, .jpg, .jpeg, .tif, .tiff or .dcm in any case, and files without suffix that hold DICOM.
    Other files, hidden files and folders, and links to folders are passed over.

    Raises:
        ImageError: a folder cannot be read, two files have one key, or there is no image at all.
    """
    found: dict[str, Path] = {}
    searched = [Path(folder) for folder in folders]
    for path in chain.from_iterable(map(_image_paths, searched)):
        if path.stem in found:
            raise _same_key(path, found[path.stem])
        found[path.stem] = path
    if not found:
        where, expected = ", ".join(map(str, searched)), f"files ending in {' '.join(SUFFIXES)}"
        raise ImageError(f"{where}: no images", expected=expected, got="none", do="name the folders with the images")
    return dict(sorted(found.items()))


def read_contents(path: Path) -> tuple[bytes, Kind]:
    """Return the bytes of an image file and the kind that they are.

    Raises:
        ImageError: unreadable, empty, too large, changing meanwhile, no known kind, or another one than its name says.
    """
    contents = _read_unchanged(path)
    kind, named = _kind(contents[:_HEAD_BYTES]), SUFFIXES.get(path.suffix.lower())
    if kind is None or named not in (None, kind):
        raise ImageError(
            f"{path}: not {f'a {named} image' if named else 'an image that can be read'}",
            expected=named or "PNG, JPEG, TIFF or DICOM",
            got=kind or f"bytes {contents[:16]!r}",
            do="fetch or export the file again; its name must end as its contents are",
        )
    return contents, kind


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
        raise _unreadable(Path(error.filename or folder), error) from error


def _is_image(path: Path) -> bool:
    if path.suffix:
        return path.suffix.lower() in SUFFIXES
    with path.open("rb") as file:
        return _kind(file.read(_HEAD_BYTES)) == "DICOM"


def _kind(head: bytes) -> Kind | None:
    if head[128:132] == b"DICM":
        return "DICOM"
    named = (kind for signature, kind in _SIGNATURES if head.startswith(signature))
    return next(named, "DICOM" if _BARE_DICOM.match(head) else None)


def _read_unchanged(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            before = os.fstat(file.fileno())
            contents = file.read(MAX_FILE_BYTES + 1)
            after = os.fstat(file.fileno())
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(contents) > MAX_FILE_BYTES:
        expected, got = f"at most {MAX_FILE_BYTES:,} bytes", f"{before.st_size:,} bytes"
        raise ImageError(f"{path}: the file is too large", expected=expected, got=got, do="leave it out")
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or len(contents) != after.st_size:
        raise ImageError(
            f"{path}: the file changed while it was read",
            expected=f"{before.st_size:,} bytes of modification time {before.st_mtime_ns} ns",
            got=f"{len(contents):,} bytes, then {after.st_size:,} bytes of {after.st_mtime_ns} ns",
            do="wait until the file is written, then run again",
        )
    if not contents:
        raise ImageError(f"{path}: the file is empty", expected="an image", got="0 bytes", do="fetch the file again")
    return contents


def _unreadable(path: Path, error: OSError) -> ImageError:
    do = "check the path and its permissions"
    return ImageError(f"{path}: cannot be read", expected="a readable file or folder", got=error.strerror, do=do)


def _same_key(path: Path, other: Path) -> ImageError:
    return ImageError(
        f"{path}: another image has the same key",
        expected=f"one image for the key {path.stem!r}",
        got=f"{other} and {path}",
        do="name only the folder that is meant, or rename one of the two",
    )
