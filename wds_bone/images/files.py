"""Find the image files in folders.

In: folders, or prefixes in object storage.
Out: the files that may be the image of a name.
Invariant: only files that are asked for by name, and whose suffix does not tell their format, are opened.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar
from unicodedata import normalize

from wds_bone.errors import ImageError
from wds_bone.images.contents import SUFFIXES, has_image_suffix, read_error, starts_as_image
from wds_bone.objects.url import Url
from wds_bone.storage.location import Location, for_each
from wds_bone.storage.remote_files import sizes_below

LocationT = TypeVar("LocationT", bound=Location)
_MAX_SUFFIXES = 5
_DIRECTORY_NAME = "DICOMDIR"  # lists the films of a medium, and starts as they do (PS3.10, 8.6)


@dataclass(frozen=True)
class ImageFiles(Generic[LocationT]):
    """The files in some folders, of which only those that are asked for are opened.

    Attributes:
        images: the files whose suffix is that of an image, .png, .jpg, .jpeg, .tif, .tiff or .dcm.
        others: all other files.
        by_name: the files of each name: the file name without its suffix and, of other files, also with it.
        num_bytes: the sizes of the files in object storage, which are known without asking for each of them.
        are_images: whether objects whose suffix does not tell it are images, as far as `look_at` has found out.
    """

    images: tuple[LocationT, ...]
    others: tuple[LocationT, ...]
    by_name: Mapping[str, Sequence[LocationT]]
    num_bytes: Mapping[LocationT, int] = field(default_factory=dict)
    are_images: Mapping[LocationT, bool] = field(default_factory=dict)

    def look_at(self, names: Iterable[str]) -> "ImageFiles[LocationT]":
        """Return these files after opening the objects of these names whose suffix does not tell their format.

        Many are opened at once, because an answer takes time; `find` then opens none of them.
        """
        found = dict.fromkeys(path for name in names for path in self.by_name.get(name, ()) if isinstance(path, Url))
        unknown = [path for path in found if not has_image_suffix(path)]
        return replace(self, are_images=dict(zip(unknown, for_each(starts_as_image, unknown), strict=True)))

    def find(self, name: str, folders: Sequence[str] = ()) -> LocationT | None:
        """Return the image called `name`, or None; files whose suffix does not tell their format are opened.

        Args:
            name: a file name without its suffix, in Unicode normal form C.
            folders: the names of the innermost folders that the image is in; () accepts any folder.

        Raises:
            ImageError: if there are several images of that name.
        """
        paths = self.find_all(name, folders)
        if len(paths) > 1:
            raise _duplicate_key_error(name, paths)
        return paths[0] if paths else None

    def find_all(self, name: str, folders: Sequence[str] = ()) -> list[LocationT]:
        """Return the images called `name`, as `find` does, or the first of them if all are links to one file."""
        paths = [path for path in self.by_name.get(name, ()) if _is_in(path, folders)]
        paths = [path for path in paths if has_image_suffix(path) or self._is_image(path)]
        return paths[:1] if all(_is_same_file(path, paths[0]) for path in paths[1:]) else paths

    def _is_image(self, path: LocationT) -> bool:
        known = self.are_images.get(path)
        return starts_as_image(path) if known is None else known

    def list_all(self) -> list[LocationT]:
        """Return all images, sorted by path; files whose suffix does not tell their format are opened."""
        maybe = (path for path in self.others if path.name != _DIRECTORY_NAME)
        return sorted((*self.images, *filter(starts_as_image, maybe)))

    def describe(self, used: Collection[LocationT] = ()) -> str:
        """Return the number of images, and of the other files by suffix, all without those `used`."""
        num_images = sum(path not in used for path in self.images)
        others = count_by_suffix(path for path in self.others if path not in used)
        return f"{num_images:,} images" + (f"; other files: {others}" if others else "")


def count_by_suffix(paths: Iterable[Location]) -> str:
    """Return the number of files with each suffix in words, "" if there are no files."""
    suffixes = Counter(path.suffix.lower() or "without suffix" for path in paths)
    shown = [f"{count:,} {suffix}" for suffix, count in suffixes.most_common(_MAX_SUFFIXES)]
    num_rest = suffixes.total() - sum(count for _, count in suffixes.most_common(_MAX_SUFFIXES))
    return ", ".join([*shown, f"{num_rest:,} of other kinds"] if num_rest else shown)


def find_images(folders: Iterable[LocationT], *, unreadable: list[ImageError] | None = None) -> ImageFiles[LocationT]:
    """Return the files in `folders`, their subfolders and linked folders; none of them is opened.

    Hidden files and folders are skipped, and a folder that is found twice is searched once.

    Args:
        folders: the folders to search, or prefixes in object storage.
        unreadable: collects the errors for folders that cannot be read; None raises the first of them.

    Raises:
        ImageError: if a folder cannot be read, or there are no files in folders that can all be read.
    """
    searched = tuple(folders)
    images: list[LocationT] = []
    others: list[LocationT] = []
    by_name: dict[str, list[LocationT]] = defaultdict(list)
    objects = {url: size for url in searched if isinstance(url, Url) for url, size in _objects_below(url, unreadable)}
    paths: Any = _files_in([folder for folder in searched if isinstance(folder, Path)], unreadable)
    for path in (*paths, *objects):
        is_named = has_image_suffix(path)
        (images if is_named else others).append(path)
        for name in {path.stem} if is_named else {path.stem, path.name}:
            by_name[normalize("NFC", name)].append(path)
    if not by_name and not unreadable:
        where, expected = ", ".join(map(str, searched)), f"files ending in {' '.join(SUFFIXES)}"
        do = "use the folders that contain the films"
        raise ImageError(f"{where}: no images", expected=expected, got="no files", do=do)
    return ImageFiles(tuple(images), tuple(others), by_name, objects)


def _objects_below(prefix: Url, unreadable: list[ImageError] | None) -> Iterator[tuple[Any, int]]:
    """Yield all objects below a prefix whose names are not hidden, and their sizes."""
    try:
        found = sizes_below(prefix)
    except OSError as error:
        if unreadable is None:
            raise read_error(prefix, error) from error
        unreadable.append(read_error(prefix, error))
        return
    num_parts = len(prefix.parts)
    yield from ((url, size) for url, size in found.items() if not any(map(_is_hidden, url.parts[num_parts:])))


def _is_hidden(name: str) -> bool:
    return name.startswith(".")


def _files_in(folders: Iterable[Path], unreadable: list[ImageError] | None) -> Iterator[Path]:
    """Yield all files that are not hidden; links to folders are followed, and each folder is searched once."""
    pending, searched = [*folders], set()
    while pending:
        folder = pending.pop()
        try:
            status = folder.stat()
            entries = [] if (status.st_dev, status.st_ino) in searched else sorted(os.scandir(folder), key=_name)
        except (OSError, ValueError) as error:
            if unreadable is None:
                raise _folder_error(folder, error) from error
            unreadable.append(_folder_error(folder, error))
            continue
        searched.add((status.st_dev, status.st_ino))
        shown = [entry for entry in entries if not entry.name.startswith(".")]
        inner = {entry.name for entry in shown if _is_folder(entry)}
        pending += [folder / name for name in sorted(inner, reverse=True)]  # the last one is searched first
        yield from (folder / entry.name for entry in shown if entry.name not in inner)


def _folder_error(folder: Path, error: OSError | ValueError) -> ImageError:
    if isinstance(error, NotADirectoryError) and folder.is_file():  # often because of an unquoted pattern
        do = f"use its folder, {folder.parent}"
        return ImageError(f"{folder}: cannot be read as a folder", expected="a folder", got="a file", do=do)
    return read_error(folder, error)


def _name(entry: "os.DirEntry[str]") -> str:
    return entry.name


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _is_in(path: Location, folders: Sequence[str]) -> bool:
    return not folders or [normalize("NFC", part) for part in path.parent.parts[-len(folders) :]] == [*folders]


def _is_same_file(path: Location, other: Location) -> bool:
    if isinstance(path, Url) or isinstance(other, Url):
        return path == other
    try:
        return path.samefile(other)
    except OSError:
        return False


def _duplicate_key_error(name: str, paths: Sequence[Location]) -> ImageError:
    return ImageError(
        f"{paths[0]}: another image has the same key",
        expected=f"one image for the key {name!r}",
        got=" and ".join(map(str, paths)),
        do="use only one of the folders, or rename one of the files",
    )
