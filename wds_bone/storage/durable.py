"""Write files atomically and durably.

In: a path and a function that writes the contents.
Out: the complete file, or an error.
Invariant: at any time, even after a kill or a power failure, the path holds all of the old contents or all of the new.

The steps are: write to a temporary name, fsync, rename, fsync the folder. A temporary file left behind by a killed
process is replaced by the next write.
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeVar

from wds_bone.errors import ShardError, WdsBoneError
from wds_bone.paths import refuse_unusable_folder

TEMPORARY_SUFFIX = ".tmp"
PROBE_BYTES = 4096
Contents = TypeVar("Contents")


def write_atomically(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write `path` through `write`, atomically and durably.

    Raises:
        WdsBoneError: if the write fails (disk full, read-only, I/O error). `path` is unchanged, unless only the folder
            could not be synced: then it holds the new contents, but a power failure may revert it.
    """
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    try:
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as stream:  # "x" never writes through a link at the temporary name
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        _remove_quietly(temporary)
        raise storage_error(path, error) from error
    except BaseException:
        _remove_quietly(temporary)
        raise


def write_bytes_atomically(path: Path, contents: bytes) -> None:
    """Write `contents` to `path`, atomically and durably, like `write_atomically`."""

    def write(stream: BinaryIO) -> None:
        stream.write(contents)

    write_atomically(path, write)


def probe_folder(folder: Path, *, files: Iterable[str] = (), folders: Iterable[str] = ()) -> None:
    """Create `folder` if necessary, and check that files can be written in it before the work for them is done.

    Args:
        folder: the folder.
        files: names in it that must be files, if they exist.
        folders: names in it that must be folders, if they exist.

    Raises:
        ConfigError: if it or a name in it is of another kind, or it is not writable.
        WdsBoneError: if a file cannot be written, such as on a full disk.
    """
    refuse_unusable_folder(folder, files=files, folders=folders)
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())


def read_parsed(path: Path, parse: Callable[[bytes], Contents], *, do: str) -> Contents:
    """Return the parsed contents of a file that was written with `write_atomically`.

    Raises:
        ShardError: if the file cannot be read or parsed; its remedy is `do`.
    """
    try:
        return parse(path.read_bytes())
    except OSError as error:
        raise ShardError(f"{path}: cannot be read: {error.strerror}", do=do) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ShardError(
            f"{path}: is damaged", expected="a file written by `wds-bone make-shards`", got=repr(error), do=do
        ) from error


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Convert an `OSError` raised inside the block to a `WdsBoneError` about `path`."""
    try:
        yield
    except OSError as error:
        raise storage_error(path, error) from error


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def storage_error(path: Path, error: OSError) -> WdsBoneError:
    """Return the error for a failed write to `path`; if the disk is full, it states the free space."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return WdsBoneError(
        f"{path}: cannot be written: {error.strerror}",
        expected="enough free disk space" if full else "a writable folder",
        got=f"{_free_bytes(path):,} bytes free" if full else errno.errorcode.get(error.errno or 0, "an I/O error"),
        do="free some space and run the same command again" if full else "check the folder and run the command again",
    )


def _free_bytes(path: Path) -> int:
    return shutil.disk_usage(path.parent).free


def _remove_quietly(path: Path) -> None:
    # The original error is the one to report, not that the cleanup fails as well.
    with suppress(OSError):
        path.unlink()
