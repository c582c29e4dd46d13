"""Lock a prefix in object storage, so that only one run of a command writes below it at a time.

In: the prefix, and the command that is about to write.
Out: a lock, held while the `with` block runs: an object that describes its holder.
Invariant: of all runs that write the object, the store lets only one create it. No store releases a lock when its
holder is killed; a later run on the same host takes it over, and a run on another host reports how to delete it.
"""

import fcntl
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from wds_bone.errors import ConfigError
from wds_bone.objects.clients import client_of
from wds_bone.objects.url import Url
from wds_bone.storage.durable import storage_errors
from wds_bone.storage.lock import describe_holder, lock_name, may_be_alive

MAX_BYTES = 1000
_DELETE = {
    "s3": "aws s3 rm {url}",
    "gs": "gcloud storage rm {url}",
    "az": "az storage blob delete --container-name {url.host} --name {url.path}",
}


@contextmanager
def prefix_lock(prefix: Url, command: str) -> Iterator[None]:
    """Hold the lock of `prefix`.

    Raises:
        ConfigError: if another run of the command holds the lock; the message names its process, host and start, and
            the command that deletes the lock.
        WdsBoneError: if nothing can be written below the prefix.
    """
    url = prefix / lock_name(command)
    contents = f"{describe_holder()}\n{secrets.token_hex(8)}\n".encode()  # so that no other run writes the same
    with storage_errors(url), _one_at_a_time():
        holder = _create(url, contents)
        if holder is not None and _has_ended(holder):
            client_of(url).delete(url)
            holder = _create(url, contents)
    if holder is not None:
        raise _locked_error(holder, url, command)
    try:
        yield
    finally:
        with suppress(OSError):  # an error of the block is the one to report
            client_of(url).delete(url)


def _has_ended(holder: str) -> bool:
    """Return whether the holder ran on this host and has ended; restarted containers use the same ids again."""
    return not may_be_alive(holder) or describe_holder().partition(", ")[0] == holder.partition(", ")[0]


def _create(url: Url, contents: bytes) -> str | None:
    """Create the lock, or return who holds it; stores that ignore the condition are asked for the lock first."""
    found = _read(url)
    if not found:
        with suppress(FileExistsError):
            client_of(url).write(url, contents, only_if_absent=True)
            return None
        found = _read(url)
    # The answer to a write that succeeded may have been lost.
    return None if found == contents else found.decode(errors="replace").partition("\n")[0]


def _read(url: Url) -> bytes:
    try:
        return client_of(url).read_all(url, max_bytes=MAX_BYTES)
    except FileNotFoundError:
        return b""


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Let only one process of this host find out at a time that a holder has ended, and replace its lock."""
    descriptor = os.open(tempfile.gettempdir(), os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _locked_error(holder: str, url: Url, command: str) -> ConfigError:
    delete = _DELETE[url.scheme].format(url=url)
    return ConfigError(
        f"{url}: another run of `wds-bone {command}` holds this lock",
        expected="no other writer",
        got=holder or "a writer that has just started",
        do=f"wait until it has finished, or write elsewhere with --out; if it was killed, run `{delete}`",
    )
