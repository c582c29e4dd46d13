"""List the films that a user names: files, folders, patterns, and the lines of standard input.

In: words such as `a.png`, `ward`, `ward/*.dcm` or `-`.
Out: the paths of films, in the order of the words, and an error for each word that names none.
Invariant: a path that exists means itself. A file that is named is a film, whatever it contains; in a folder, only
files that are images by their suffix or contents are films, and all others are counted.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path

from wds_bone.errors import ConfigError, ImageError, WdsBoneError
from wds_bone.images.files import find_images
from wds_bone.paths import refuse_url, strip_scheme

FROM_STDIN = "-"
_MAGIC = frozenset("*?[")


@dataclass
class FilmList:
    """The films that a user named.

    Attributes:
        films: their paths; a film that is named twice occurs twice.
        errors: one for each word that names no film, and for each folder that cannot be read.
        skipped: the files in folders that are not images.
    """

    films: list[Path] = field(default_factory=list)
    errors: list[WdsBoneError] = field(default_factory=list)
    skipped: set[Path] = field(default_factory=set)


def list_films(words: Iterable[str], lines: Iterable[str], *, option: str = "IMAGE") -> FilmList:
    """Return the films that `words` mean.

    Args:
        words: files; folders, which are searched with their subfolders; patterns of `*`, `?`, `[...]` and `**`; and
            `-`, which is replaced by `lines`. A `~` at the start is expanded if it can be.
        lines: the same, one per line; empty lines are ignored.
        option: the name of the setting, for error messages.

    Raises:
        ConfigError: if there are no words, or only empty lines.
    """
    found = FilmList()
    for word in _with_lines(words, lines):
        try:
            refuse_url(word, option=option)
            path = os.path.expanduser(strip_scheme(word))  # noqa: PTH111  # `Path.expanduser` raises
            # A pattern such as `ward/**` matches a folder and, again, everything in it.
            found.films += dict.fromkeys(film for match in _matches(path) for film in _films_at(match, found))
        except WdsBoneError as error:
            found.errors.append(error)
    if not found.films and not found.errors:
        raise ConfigError("no films to predict", expected="paths of films", got="none", do="name at least one film")
    return found


def _with_lines(words: Iterable[str], lines: Iterable[str]) -> Iterator[str]:
    listed = (lines if word == FROM_STDIN else [word] for word in words)
    yield from (word for part in listed for line in part if (word := line.rstrip("\r\n")))


def _matches(path: str) -> list[Path]:
    """Return the path itself if it exists or is not a pattern, or else what it matches, sorted by path."""
    if os.path.lexists(path) or "\0" in path or not _MAGIC & set(path):
        return [Path(path)]
    if matches := sorted(map(Path, glob(path, recursive=True))):  # noqa: PTH207  # the pattern may be absolute
        return matches
    raise ImageError(
        f"{path}: no film", expected="a file, a folder, or a pattern that matches", got="no match", do="check the path"
    )


def _films_at(path: Path, found: FilmList) -> list[Path]:
    """Return the film at a path, or the films in the folder there; add what else is in the folder to `found`."""
    if not os.path.isdir(path):  # noqa: PTH112  # False for names that no file can have; `Path.is_dir` raises
        return [path]
    unreadable: list[ImageError] = []
    files = find_images([path], unreadable=unreadable)
    films = files.list_all()
    found.errors += unreadable
    found.skipped.update(set(files.others).difference(films))
    if not films and not unreadable:
        do = "use the folders that contain the films"
        raise ImageError(f"{path}: no films in this folder", expected="films", got=files.describe(), do=do)
    return films
