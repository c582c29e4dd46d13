"""Turn what a user types as a path into a path, and refuse what cannot be one before any work is done.

In: the values of settings whose type is `Path`, `PathText`, `FileText` or `ShardsText`.
Out: the values with `~` expanded and `file://` removed, or an error that names the option.
Invariant: what cannot be opened is refused before anything is read or written.
"""

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import NewType
from urllib.parse import unquote

from wds_bone.errors import ConfigError
from wds_bone.redaction import HIDDEN

PathText = NewType("PathText", str)
"""The type of a setting that is a path, a pattern of paths, or a word such as "none"."""
FileText = NewType("FileText", str)
"""The type of a setting that is a path or a URL."""
ShardsText = NewType("ShardsText", str)
"""The type of a setting that names shards or a set: a path, a URL, or a pattern of these."""
MAX_NAME_BYTES, MAX_PATH_BYTES = 255, 4095
_SHOWN_CHARACTERS = 60
_KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def expand_path(text: str, *, option: str, may_be_url: bool = False) -> str:
    """Return `text` with `~` and `~user` at its start expanded and `file://` removed, or refuse what can be no path.

    With `may_be_url`, a URL is returned as it is; whoever reads it knows the schemes.

    Raises:
        ConfigError: if it is empty, contains a NUL, is too long, names an unknown user, or is a URL where none may be;
            the error names `option`.
    """
    if may_be_url and is_remote(text):
        _refuse_redacted(text, option=option)
        return text
    refuse_url(text, option=option)
    expanded = strip_scheme(os.path.expanduser(text))  # noqa: PTH111  # keeps patterns as they are
    if expanded.startswith("~") and not os.path.lexists(expanded):
        user = expanded.partition("/")[0]
        do = f"check the name of the user, or write ./{user} for a path in this folder"
        raise ConfigError(f"{option} {_shown(text)}: there is no home folder {user!r}", do=do)
    if reason := _reason_against(expanded):
        raise ConfigError(f"{option} {_shown(text)}: {reason}", expected="a path", do="check the path")
    return expanded


def is_remote(text: str) -> bool:
    """Return whether a text is a URL other than `file://`; a path that exists is none, whatever its name."""
    scheme, separator, _ = text.partition("://")
    return bool(separator) and scheme != "file" and not os.path.lexists(text)


def refuse_url(text: str, *, option: str) -> None:
    """Refuse URLs other than `file://`.

    Raises:
        ConfigError: if `text` is one; the error names `option`, and hides what may be a password or a signature.
    """
    if is_remote(text):
        scheme = text.partition("://")[0]
        problem = f"{option} {scheme[:_SHOWN_CHARACTERS]}://...: is not a local path"
        raise ConfigError(problem, expected="a path, or file://", do="copy the files to a local disk")


def _refuse_redacted(url: str, *, option: str) -> None:
    """Refuse a URL from a file of settings, which are saved without what is secret."""
    if url.endswith(HIDDEN):
        problem = f"{option} {url}: was saved without its query, which may be secret"
        raise ConfigError(problem, expected="a whole URL", do=f"add {option} with the whole URL")


def strip_scheme(text: str) -> str:
    """Return the path in a `file://` URL, in which `%20` may be a space; any other text is returned as it is.

    Raises:
        ConfigError: if the URL names another host.
    """
    if not text.startswith("file://") or os.path.lexists(text):
        return text
    rest = text.removeprefix("file://").removeprefix("localhost")
    first = rest.partition("/")[0]
    if first and not first.startswith("~") and not os.path.lexists(first):
        raise ConfigError("file://...: names a host", expected="file:///PATH", do="write three slashes before the path")
    return next((path for path in (rest, unquote(rest)) if os.path.lexists(path)), rest)


def refuse_unreadable(path: str, *, option: str, may_be_pipe: bool = False) -> None:
    """Check that a file or folder, if it exists, can be read; a pipe or device would keep the command waiting.

    Raises:
        ConfigError: if it cannot; the error names `option`.
    """
    try:
        kind = _kind_of(path)
    except FileNotFoundError:
        return  # a pattern, a word, or a file whose absence the command reports
    except OSError as error:
        raise ConfigError(f"{option} {path}: cannot be read: {error.strerror}", do="check the path") from error
    if kind not in ("a file", "a folder") and not may_be_pipe:
        raise ConfigError(f"{option} {path}: is not a file", expected="a file", got=kind, do=f"use another {option}")
    if not os.access(path, os.R_OK | os.X_OK if kind == "a folder" else os.R_OK):
        raise ConfigError(f"{option} {path}: cannot be read: Permission denied", do="check its permissions")


def refuse_unusable_folder(folder: Path, *, files: Iterable[str] = (), folders: Iterable[str] = ()) -> None:
    """Check that nothing else is in the place of the folder `--out`, or of what a command writes in it.

    Whether the folder can be written to is left to the first write, which knows the reason if it cannot.

    Args:
        folder: the folder, which need not exist.
        files: names in it that must be files, if they exist.
        folders: names in it that must be folders, if they exist.

    Raises:
        ConfigError: if it or a name in it is of another kind.
    """
    for expected, paths in (("a folder", [folder]), ("a folder", _in(folder, folders)), ("a file", _in(folder, files))):
        for path in paths:
            if os.path.lexists(path) and (kind := _found_at(path)) != expected:
                do = "move it, or use another --out"
                raise ConfigError(f"{path}: is not {expected}", expected=expected, got=kind, do=do)
    existing = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if _found_at(existing) != "a folder":
        raise ConfigError(f"{folder}: cannot be created: {existing} is not a folder", do="use another --out")


def is_unicode(path: Path) -> bool:
    """Return whether the name of a path is text, which is not required of a file name."""
    return not any(0xD800 <= ord(character) <= 0xDFFF for character in str(path))


def _reason_against(path: str) -> str | None:
    """Return why no file can have this path, or None; the names in a brace pattern may be shorter than the pattern."""
    if not path:
        return "is empty"
    if "\0" in path:
        return "contains a NUL character"
    try:
        encoded = os.fsencode(path)
    except UnicodeEncodeError as error:
        return f"cannot be encoded as {error.encoding}"
    longest = max(map(len, encoded.split(b"/")))
    if "{" not in path and longest > MAX_NAME_BYTES:
        return f"a name in it is too long: {longest} bytes, of at most {MAX_NAME_BYTES}"
    if "{" not in path and len(encoded) > MAX_PATH_BYTES:
        return f"is too long: {len(encoded)} bytes, of at most {MAX_PATH_BYTES}"
    return None


def _found_at(path: Path) -> str:
    """Return what is at a path that exists, in words."""
    try:
        return _kind_of(path)
    except OSError as error:
        return f"a link that leads nowhere: {error.strerror}"


def _in(folder: Path, names: Iterable[str]) -> list[Path]:
    return [folder / name for name in names]


def _kind_of(path: Path | str) -> str:
    """Return what is at a path.

    Raises:
        OSError: if there is nothing, or it cannot be found out.
    """
    return _KINDS[stat.S_IFMT(os.stat(path).st_mode)]  # noqa: PTH116


def _shown(text: str) -> str:
    """Return a path for an error, with escapes and not too long."""
    return repr(text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}...")
