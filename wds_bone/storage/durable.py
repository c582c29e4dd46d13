"""Files that appear under their name only when they are complete and on the disk.

In: a path and a function that writes. Out: the file, or an error. Invariant: at every instant, also after a kill or a
power cut, the name holds the old contents or the new ones, never a part. (Temporary name, fsync, rename, fsync of the
folder; a temporary name left by a killed process is overwritten by the next one.)
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeVar

from wds_bone.errors import ShardError, WdsBoneError

TEMPORARY_SUFFIX = ".tmp"
Contents = TypeVar("Contents")


def publish(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write `path` through `write`, atomically and durably.

    Raises:
        WdsBoneError: when the disk refuses (full, read-only, I/O error). `path` is as it was before; only when the
            folder alone could not be synced it holds the new contents, which a power cut may take back.
    """
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    try:
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as stream:  # never through a link that somebody laid there
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


def publish_bytes(path: Path, contents: bytes) -> None:
    """Write `contents` to `path` as `publish` does."""

    def write(stream: BinaryIO) -> None:
        stream.write(contents)

    publish(path, write)


def read_published(path: Path, parse: Callable[[bytes], Contents], *, do: str) -> Contents:
    """Return what `parse` makes of a file that was written with `publish`.

    Raises:
        ShardError: it cannot be read, or `parse` cannot make anything of it; `do` is the remedy.
    """
    try:
        return parse(path.read_bytes())
    except OSError as error:
        raise ShardError(f"{path}: cannot be read: {error.strerror}", do=do) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ShardError(f"{path}: is damaged", expected="what make_shards wrote", got=repr(error), do=do) from error


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn what the operating system says inside the block into an error about `path` that a user can mend."""
    try:
        yield
    except OSError as error:
        raise storage_error(path, error) from error


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def storage_error(path: Path, error: OSError) -> WdsBoneError:
    """Return the error for `path` that says what the disk refused, and how much room it has when it is full."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return WdsBoneError(
        f"{path}: cannot be written: {error.strerror}",
        expected="room on the disk" if full else "a folder that can be written to",
        got=f"{_free_bytes(path):,} bytes free" if full else errno.errorcode.get(error.errno or 0, "an I/O error"),
        do="free some space and run the same command again" if full else "check the folder, then run the command again",
    )


def _free_bytes(path: Path) -> int:
    return shutil.disk_usage(path.parent).free


def _remove_quietly(path: Path) -> None:
    # The error that led here is the one to report, not that the disk refuses this as well.
    with suppress(OSError):
        path.unlink()
