"""Say which limit of the system made a call fail, and what to do about it.

In: an `OSError`.
Out: the limit, with its number, and a remedy; or None if the error is not about a limit.
Invariant: the remedy is about the limit that was hit, not about the file that happened to be opened or written.
"""

import errno
import os
import resource
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from wds_bone.paths import MAX_NAME_BYTES

_REPEAT = "then run the same command again"


class Limit(NamedTuple):
    """What would have been needed, what there is, and how to get more."""

    expected: str
    got: str
    do: str


def limit_of(error: OSError, path: Path) -> Limit | None:
    """Return the limit that an error about `path` is due to; None for an error of another kind."""
    describe = _LIMITS.get(error.errno or 0)
    return None if describe is None else describe(path)


def _disk(path: Path) -> Limit:
    folder = _nearest_folder(path)
    with suppress(OSError):
        if os.statvfs(folder).f_files and not os.statvfs(folder).f_favail:
            return Limit("room for another file", "no free inodes", f"delete files that are not needed, {_REPEAT}")
    return Limit("enough free disk space", f"{_free_bytes(folder)} bytes free", f"free some space, {_REPEAT}")


def _quota(_path: Path) -> Limit:
    do = f"delete files that are not needed or ask for a larger quota (`quota -s` shows it), {_REPEAT}"
    return Limit("space within the disk quota", "the disk quota is used up", f"{do}; or write to another disk")


def _open_files(_path: Path) -> Limit:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return Limit(
        "a free file descriptor",
        f"{limit:,} open files, the limit of a process (`ulimit -n`)",
        f"raise the limit with `ulimit -n 4096`, {_REPEAT}",
    )


def _system_files(_path: Path) -> Limit:
    do = f"close other programs, or raise the system's limit (`sysctl fs.file-max`), {_REPEAT}"
    return Limit("a free file descriptor", "the open files of the whole system are used up", do)


def _file_size(_path: Path) -> Limit:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    largest = "the largest file of this disk" if limit == resource.RLIM_INFINITY else f"{limit:,} bytes (`ulimit -f`)"
    return Limit("a larger file to be allowed", largest, f"raise the limit with `ulimit -f unlimited`, {_REPEAT}")


def _read_only(_path: Path) -> Limit:
    return Limit("a writable disk", "a disk that is mounted read-only", "use a folder on another disk")


def _name_length(path: Path) -> Limit:
    longest, whole = max(len(os.fsencode(part)) for part in path.parts), len(os.fsencode(path))
    if longest <= MAX_NAME_BYTES:
        return Limit("a shorter path", f"a path of {whole:,} bytes", "use shorter names, or fewer folders")
    return Limit(f"names of at most {MAX_NAME_BYTES} bytes", f"a name of {longest:,} bytes", "use a shorter name")


def _not_a_folder(path: Path) -> Limit:
    file = next((parent for parent in (path, *path.parents) if parent.exists() and not parent.is_dir()), path)
    return Limit("a folder", f"{file} is a file", "use another name, or move that file")


def _processes(_path: Path) -> Limit:
    limit = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    do = f"use fewer threads or workers, or raise the limit with `ulimit -u`, {_REPEAT}"
    return Limit("room for another process", f"at most {limit:,} processes (`ulimit -u`, or of the container)", do)


def _memory(_path: Path) -> Limit:
    return Limit("enough free memory", "no memory is left", f"end other programs, or use a larger machine, {_REPEAT}")


_LIMITS: dict[int, Callable[[Path], Limit]] = {
    errno.ENOSPC: _disk,
    errno.EDQUOT: _quota,
    errno.EMFILE: _open_files,
    errno.ENFILE: _system_files,
    errno.EFBIG: _file_size,
    errno.EROFS: _read_only,
    errno.ENAMETOOLONG: _name_length,
    errno.ENOTDIR: _not_a_folder,
    errno.EEXIST: _not_a_folder,
    errno.EAGAIN: _processes,
    errno.ENOMEM: _memory,
}


def _nearest_folder(path: Path) -> Path:
    return next((parent for parent in path.absolute().parents if parent.is_dir()), Path("/"))


def _free_bytes(folder: Path) -> str:
    try:
        return f"{shutil.disk_usage(folder).free:,}"
    except OSError:
        return "an unknown number of"
