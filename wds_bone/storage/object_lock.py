"""Lock a prefix in object storage, so that only one run of a command writes below it at a time.

In: the prefix, and the command that is about to write.
Out: a lock, held while the `with` block runs: an object that describes its holder.
Invariant: of all runs that write the object, the store lets only one create it. No store releases a lock when its
holder is killed; a later run on the same host takes it over, and any other run reports how to delete it.

Host names and process ids are not unique: two hosts may have the same name, and containers of one host have their own
processes. So the lock also records the start of the kernel and the namespace of the process ids.
"""

import fcntl
import os
import secrets
import shlex
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from wds_bone.errors import ConfigError
from wds_bone.objects.clients import client_of
from wds_bone.objects.url import Url
from wds_bone.storage.durable import storage_errors
from wds_bone.storage.lock import describe_holder, lock_name, may_be_alive

MAX_BYTES = 1000
_DELETE = {
    "s3": "aws s3 rm s3://{bucket}/{path}",
    "gs": "gcloud storage rm gs://{bucket}/{path}",
    "az": "az storage blob delete --container-name {bucket} --name {path}",
}
_held = set[str]()
"""The numbers of the locks that this process holds."""


@contextmanager
def prefix_lock(prefix: Url, command: str) -> Iterator[None]:
    """Hold the lock of `prefix`.

    Raises:
        ConfigError: if another run of the command holds the lock; the message names its process, host and start, and
            the command that deletes the lock.
        WdsBoneError: if nothing can be written below the prefix.
    """
    url = prefix / lock_name(command)
    own = _Holder(describe_holder(), _kernel(), _namespace(), secrets.token_hex(8))
    with storage_errors(url), _one_at_a_time():
        holder = _create(url, own)
        if holder is not None and _has_ended(holder, own):
            client_of(url).delete(url)
            holder = _create(url, own)
    if holder is not None:
        raise _locked_error(holder.description, url, command)
    _held.add(own.number)
    try:
        yield
    finally:
        _held.remove(own.number)
        with suppress(OSError):  # an error of the block is the one to report
            if _read(url) == own:  # a user may have deleted it, and another run may hold its own
                client_of(url).delete(url)


class _Holder(NamedTuple):
    """Who holds a lock: its process, host and start; the kernel and the namespace it runs in; a random number."""

    description: str
    kernel: str = ""
    namespace: str = ""
    number: str = ""


def _kernel() -> str:
    """Return what differs between two hosts, and between two starts of one; a system without it has no containers."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{uuid.getnode():x}"


def _namespace() -> str:
    with suppress(OSError):
        return str(Path("/proc/self/ns/pid").readlink())
    return ""


def _has_ended(holder: _Holder, own: _Holder) -> bool:
    """Return whether the holder ran on this host and has certainly ended."""
    if holder.kernel != own.kernel:
        return False
    # A container that was restarted has the same name and process id as before, in another namespace.
    if holder.description.partition(", ")[0] == own.description.partition(", ")[0]:
        return holder.number not in _held
    return holder.namespace == own.namespace and not may_be_alive(holder.description)


def _create(url: Url, own: _Holder) -> _Holder | None:
    """Create the lock, or return who holds it; stores that ignore the condition are asked for the lock first."""
    found = _read(url)
    if found is None:
        with suppress(FileExistsError):
            client_of(url).write(url, "".join(f"{line}\n" for line in own).encode(), only_if_absent=True)
            return None
        found = _read(url) or _Holder("")
    return None if found == own else found  # the answer to a write that succeeded may have been lost


def _read(url: Url) -> _Holder | None:
    """Return who holds the lock, None if nobody does."""
    try:
        lines = client_of(url).read_all(url, max_bytes=MAX_BYTES).decode(errors="replace").splitlines()
    except FileNotFoundError:
        return None
    return _Holder(*lines[: len(_Holder._fields)]) if lines else _Holder("")


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
    delete = _DELETE[url.scheme].format(bucket=url.host, path=shlex.quote(url.path))
    return ConfigError(
        f"{url}: another run of `wds-bone {command}` holds this lock",
        expected="no other writer",
        got=holder or "a writer that has just started",
        do=f"wait until it has finished, or write elsewhere with --out; if it was killed, run `{delete}`",
    )
