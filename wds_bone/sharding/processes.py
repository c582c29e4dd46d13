"""Write shards in parallel, one process per shard, or in this process if there is only one worker.

In: plans of shards.
Out: their files and records in the staging folder.
Invariant: when this process ends for any reason, its writers end too; when a writer is killed, this process raises an
error instead of waiting for it.
"""

import errno
import multiprocessing
import operator
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import connection, forkserver
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from typing import Any, Protocol

from wds_bone.errors import ShardError, WdsBoneError
from wds_bone.interrupt import SIGNALS
from wds_bone.sharding.plan import ShardPlan
from wds_bone.sharding.writer import write_shard
from wds_bone.shards.manifest import ImageFormat
from wds_bone.storage.limits import limit_of
from wds_bone.storage.location import Location
from wds_bone.storage.lock import Lock

POLL_SECONDS = 0.2
_NO_TEMPORARY_FOLDER = (errno.ENOENT, errno.EROFS, errno.EACCES, errno.ENOSPC)


@dataclass(frozen=True)
class WriterSettings:
    """The settings that all writers of a set share."""

    folder: Location
    image: ImageFormat
    max_bad: int | None


@dataclass
class _RunningWriter:
    shard: ShardPlan
    process: BaseProcess
    errors: "connection.Connection[Any, WdsBoneError]"


class WriteShards(Protocol):
    """Writes shards, and calls `show` regularly with the number of samples done."""

    def __call__(self, shards: Sequence[ShardPlan], settings: WriterSettings, *, show: Callable[[int], None]) -> None:
        """Write `shards` to the folder in `settings`."""


def write_shards(
    shards: Sequence[ShardPlan],
    settings: WriterSettings,
    *,
    workers: int,
    lock: Lock,
    show: Callable[[int], None],
) -> None:
    """Write `shards`, at most `workers` at a time, and call `show` regularly with the number of samples done.

    Args:
        shards: the shards.
        settings: the settings of all of them.
        workers: the number of processes.
        lock: the lock of the set, which the processes hold too.
        show: is called with the number of samples done.

    Raises:
        WdsBoneError: if a writer fails; the other writers are killed.
        ShardError: if a writer is killed.
    """
    if workers > 1 and len(shards) > 1:
        _write_in_processes(shards, settings, workers=workers, lock=lock, show=show)
        return
    num_done = 0
    for shard in shards:
        _write(shard, settings, partial(_show_total, show, num_done))
        num_done += len(shard.sources)


def _write_in_processes(
    shards: Sequence[ShardPlan],
    settings: WriterSettings,
    *,
    workers: int,
    lock: Lock,
    show: Callable[[int], None],
) -> None:
    # The fork server imports everything only once, so it is faster than spawning, and it is safe with threads.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["webdataset", __name__])
    with _start_errors():
        _start_fork_server()
        counts = RawArray("q", len(shards))  # no lock: a killed writer would never release it
    waiting = list(enumerate(shards))[::-1]
    running: list[_RunningWriter] = []
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                number, shard = waiting.pop()
                running.append(_start(context, shard, (settings, lock, counts, number)))
            connection.wait([writer.process.sentinel for writer in running], timeout=POLL_SECONDS)
            running = [writer for writer in running if not _has_finished(writer)]
            show(sum(counts))
    except BaseException:
        _kill_fork_server()
        raise
    finally:
        for writer in running:
            writer.process.kill()
            writer.process.join()


def _start_fork_server() -> None:
    """Start the fork server with the import path of this process.

    Python does not pass it on, and in a checkout, the fork server would import another wds_bone that is installed.
    """
    previous = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    try:
        forkserver.ensure_running()
    finally:
        if previous is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = previous


def _kill_fork_server() -> None:
    """Kill the fork server; on its own, it notices only after its imports that this process has ended."""
    pid = getattr(forkserver._forkserver, "_forkserver_pid", None)
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _start(context: Any, shard: ShardPlan, rest: tuple[WriterSettings, Lock, Any, int]) -> _RunningWriter:
    with _start_errors():
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_run_writer, args=(sender, shard, *rest), name=shard.name)
        process.start()
    sender.close()
    return _RunningWriter(shard, process, receiver)


@contextmanager
def _start_errors() -> Iterator[None]:
    """Turn the failure to start a process, or to create what it shares, into an error that the user can fix."""
    try:
        yield
    except OSError as error:
        limit = None if error.errno in _NO_TEMPORARY_FOLDER else limit_of(error, Path.cwd())
        raise WdsBoneError(
            f"the writer processes cannot be started: {error.strerror or error}",
            expected=limit.expected if limit else "a writable folder for temporary files, and a writable /dev/shm",
            got=limit.got if limit else error,
            do="use --workers 1" + (f"; or {limit.do}" if limit else "; or set TMPDIR to a writable folder"),
        ) from error


def _has_finished(writer: _RunningWriter) -> bool:
    """Return whether the writer has finished its shard.

    Raises:
        WdsBoneError: if the writer sent an error.
        ShardError: if the writer ended early without sending one.
    """
    if writer.process.is_alive():
        return False
    with writer.errors:
        if writer.errors.poll() and (error := _receive(writer.errors)):
            raise error
    if writer.process.exitcode:
        raise _ended_early_error(writer)
    return True


def _receive(errors: "connection.Connection[Any, WdsBoneError]") -> WdsBoneError | None:
    try:
        return errors.recv()
    except EOFError:  # the writer sent no error
        return None


def _ended_early_error(writer: _RunningWriter) -> ShardError:
    code = writer.process.exitcode or 0
    killed = code < 0
    remedy = "run the command again to continue where it stopped"
    return ShardError(
        f"{writer.shard.name}: the writer process ended before the shard was finished",
        expected="exit code 0",
        got=f"killed by {signal.Signals(-code).name}" if killed else f"exit code {code}, traceback above",
        do=remedy + (", with fewer --workers if memory ran out" if killed else ""),
    )


def _run_writer(
    errors: "connection.Connection[Any, Any]",
    shard: ShardPlan,
    settings: WriterSettings,
    _lock: Lock,  # held until this process ends
    counts: Any,
    number: int,
) -> None:
    """Write one shard in a separate process."""
    for sent in SIGNALS:  # a terminal sends them to all processes; the parent ends its writers
        signal.signal(sent, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _write(shard, settings, partial(operator.setitem, counts, number))
    except WdsBoneError as error:
        errors.send(error)


def _write(shard: ShardPlan, settings: WriterSettings, count: Callable[[int], None]) -> None:
    write_shard(shard, settings.folder, settings.image, max_bad=settings.max_bad, count=count)


def _show_total(show: Callable[[int], None], num_before: int, num_done: int) -> None:
    show(num_before + num_done)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
