"""Write files atomically and durably.

In: a path and a function that writes the contents.
Out: the complete file, or an error.
Invariant: at any time, even after a kill or a power failure, the path holds all of the old contents or all of the new.
An object in object storage has this property by itself.

The steps are: write to a temporary name, fsync, rename, fsync the folder. Temporary names are unique, so that two
processes that write the same file cannot disturb each other. `storage.lock` deletes those of killed processes.
"""

import errno
import os
import re
import secrets
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import parent_process
from pathlib import Path
from typing import BinaryIO, TypeVar

from wds_bone.errors import ShardError, WdsBoneError
from wds_bone.objects.url import Url
from wds_bone.storage import remote_files
from wds_bone.storage.limits import limit_of
from wds_bone.storage.location import Location, read_file

_TEMPORARY = re.compile(r"(.+)\.[0-9a-f]{8}\.tmp")
_CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES)
"""How file systems refuse to sync a folder: FUSE, SMB and some NFS servers; EACCES: the folder cannot be read."""
_warned: set[str] = set()
Contents = TypeVar("Contents")


def write_atomically(path: Location, write: Callable[[BinaryIO], None]) -> None:
    """Write `path` through `write`, atomically and durably; `write` may also read what it has written.

    An object is sent when `write` has returned; before, its contents are in a nameless temporary file.

    Raises:
        WdsBoneError: if the write fails (disk full, read-only, I/O error). `path` is unchanged, unless only the folder
            could not be synced: then it holds the new contents, but a power failure may revert it.
    """
    if isinstance(path, Url):
        _write_object(path, write)
        return
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("x+b") as stream:  # "x" never writes through a link at the temporary name
            write(stream)
            stream.flush()
            _sync(stream.fileno(), path)
        temporary.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        _remove_quietly(temporary)
        raise storage_error(path, error) from error
    except BaseException:
        _remove_quietly(temporary)
        raise


def remove_temporaries(folder: Path, files: Collection[str]) -> None:
    """Delete what killed processes left of `files`, names in a folder that no other process is writing."""
    with storage_errors(folder):
        for path in folder.iterdir():
            if (found := _TEMPORARY.fullmatch(path.name)) and found[1] in files:
                path.unlink(missing_ok=True)


def write_bytes_atomically(path: Location, contents: bytes) -> None:
    """Write `contents` to a path, atomically and durably, like `write_atomically`, or to an object."""
    if isinstance(path, Url):
        with storage_errors(path):
            remote_files.write_file(path, contents)
        return

    def write(stream: BinaryIO) -> None:
        stream.write(contents)

    write_atomically(path, write)


def read_parsed(path: Location, parse: Callable[[bytes], Contents], *, do: str) -> Contents:
    """Return the parsed contents of a file that was written with `write_atomically`.

    Raises:
        ShardError: if the file cannot be read or parsed; its remedy is `do`.
    """
    try:
        return parse(read_file(path))
    except OSError as error:
        raise ShardError(f"{path}: cannot be read: {error.strerror}", do=do) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ShardError(
            f"{path}: is damaged", expected="a file written by `wds-bone make-shards`", got=repr(error), do=do
        ) from error


@contextmanager
def storage_errors(path: Location) -> Iterator[None]:
    """Convert an `OSError` raised inside the block to a `WdsBoneError` about `path`."""
    try:
        yield
    except OSError as error:
        raise storage_error(path, error) from error


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` survive a power failure; warn once if its file system cannot do that."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError as error:
        _warn_not_synced(folder, error)
        return
    try:
        _sync(descriptor, folder)
    finally:
        os.close(descriptor)


def storage_error(path: Location, error: OSError) -> WdsBoneError:
    """Return the error for a failed write to `path`; if a limit was hit, it states the limit."""
    if isinstance(path, Url):
        do = "check the URL, and whether the credentials allow writing and listing, and run the command again"
        return WdsBoneError(f"{path}: cannot be written: {error.strerror}", do=do)
    limit = limit_of(error, path)
    return WdsBoneError(
        f"{path}: cannot be written: {error.strerror}",
        expected=limit.expected if limit else "a writable folder",
        got=limit.got if limit else errno.errorcode.get(error.errno or 0, "an I/O error"),
        do=limit.do if limit else "check the folder and run the command again",
    )


def warn_once(text: str) -> None:
    """Print a warning to standard error, the first time only, and only in the process that the user started."""
    if text not in _warned and parent_process() is None:
        _warned.add(text)
        print(f"warning: {text}", file=sys.stderr)  # noqa: T201


def _write_object(url: Url, write: Callable[[BinaryIO], None]) -> None:
    local = Path(tempfile.gettempdir())
    with storage_errors(local):
        stream = tempfile.TemporaryFile()  # noqa: SIM115  # closed below, where other errors are reported
    with stream:
        with storage_errors(local):
            write(stream)
            stream.flush()
        with storage_errors(url):
            remote_files.write_file(url, stream)


def _sync(descriptor: int, path: Path) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
        _warn_not_synced(path, error)


def _warn_not_synced(path: Path, error: OSError) -> None:
    warn_once(
        f"{path if path.is_dir() else path.parent}: this file system cannot sync its files ({error.strerror}); a power "
        "failure may lose what was written last"
    )


def _remove_quietly(path: Path) -> None:
    # The original error is the one to report, not that the cleanup fails as well.
    with suppress(OSError):
        path.unlink()
