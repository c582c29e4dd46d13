"""Write one shard on a worker of a Dask cluster.

In: the plan of a shard, and what this machine must have in common with the one that planned it.
Out: a new folder, or prefix in object storage, with the files of the shard and its record.
Invariant: no film is opened on a worker that would give other bytes or that does not see the same films.
"""

import platform
import secrets
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import wds_bone
from wds_bone.errors import ConfigError, WdsBoneError
from wds_bone.objects.url import Url
from wds_bone.sharding.plan import ShardPlan
from wds_bone.sharding.processes import WriterSettings
from wds_bone.sharding.writer import write_shard
from wds_bone.storage.folders import create_folder, delete_folder
from wds_bone.storage.location import Location, file_bytes

REPORT_SECONDS = 1.0
SAME_ENVIRONMENT = "start all workers in the environment of this command, such as the same container"
_PACKAGES = (
    *("numpy", "Pillow", "imagecodecs", "simplejpeg", "webdataset"),
    *("pydicom", "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg"),
)
"""The packages that read films and write images and tars; other versions of them may give other bytes."""


@dataclass(frozen=True)
class Site:
    """What a worker must have in common with the machine that plans, in types that any version of Python can receive.

    Attributes:
        versions: the versions of Python and of the packages.
        folder: a folder that was created for this run; attempts are written there. Or the URL of an object in it. It
            is gone when the run has ended.
        films: the path or URL, and the size in bytes, of a film in each folder of films.
    """

    versions: Mapping[str, str]
    folder: str | Url
    films: Mapping[str | Url, int]


def local_versions() -> dict[str, str]:
    """Return the versions of Python, wds_bone and the packages that determine the bytes of a shard."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"wds_bone": wds_bone.__version__, "Python": python} | {name: _version(name) for name in _PACKAGES}


def find_problem(site: Site, dask_worker: Any) -> ConfigError | None:
    """Return the error for a worker that differs from the machine that plans, or None; Dask passes the worker."""
    where = f"worker {dask_worker.address}"
    films = (_film_problem(where, _location(film), num_bytes) for film, num_bytes in site.films.items())
    return (
        _version_problem(where, site.versions)
        or _folder_problem(where, _location(site.folder))
        or next(filter(None, films), None)
    )


def write_attempt(shard: ShardPlan, settings: WriterSettings, site: Site) -> str:
    """Write `shard` to a new folder in the folder of `settings`, and return the name of the new folder.

    Raises:
        WdsBoneError: if this worker differs, or the shard cannot be written; the error names the worker.
    """
    from distributed import get_worker

    worker = get_worker()
    if (problem := find_problem(site, worker)) is not None:
        raise problem
    attempt = settings.folder / f"{shard.name}.{secrets.token_hex(4)}"
    try:
        create_folder(attempt)
        count = _reporter(worker, topic=settings.folder.name, shard_name=shard.name)
        write_shard(shard, attempt, settings.image, max_bad=settings.max_bad, count=count)
        if (problem := _folder_problem(f"worker {worker.address}", _location(site.folder))) is not None:
            raise problem  # the run has ended in the meantime, and has deleted only what it found then
    except BaseException as error:
        with suppress(WdsBoneError):  # the original error is the one to report
            delete_folder(attempt)
        if isinstance(error, WdsBoneError):
            raise _with_worker(error, worker.address) from error
        raise
    return attempt.name


def _reporter(worker: Any, *, topic: str, shard_name: str) -> Callable[[int], None]:
    """Return a function that reports how many samples are done, and raises when the task has been canceled."""
    key, last_report = worker.get_current_task(), 0.0

    def count(num_done: int) -> None:
        nonlocal last_report
        now = time.monotonic()
        if now - last_report < REPORT_SECONDS:
            return
        last_report = now
        # Dask itself lets a canceled task continue to its end.
        if worker.state.tasks[key].state == "cancelled":
            raise CancelledError
        worker.log_event(topic, (shard_name, num_done))

    return count


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _version_problem(where: str, expected: Mapping[str, str]) -> ConfigError | None:
    found = local_versions()
    different = [name for name in expected if expected[name] != found.get(name)]
    if not different:
        return None
    return ConfigError(
        f"{where}: has other versions than this command",
        expected=", ".join(f"{name} {expected[name]}" for name in different),
        got=", ".join(f"{name} {found.get(name)}" for name in different),
        do=SAME_ENVIRONMENT,
    )


def _location(name: str | Url) -> Location:
    return Path(name) if isinstance(name, str) else name


def _num_bytes(file: Location) -> int:
    return file.stat().st_size if isinstance(file, Path) else file_bytes(file)


def _folder_problem(where: str, folder: Location) -> ConfigError | None:
    try:
        _num_bytes(folder)
    except OSError as error:
        if isinstance(folder, Url):
            problem = f"{where}: cannot read {folder}, which was just written: {error.strerror}"
            return ConfigError(problem, do="give the workers the credentials and settings of this command")
        return ConfigError(
            f"{where}: does not see the folder of the set, {folder.parents[1]}",
            expected=f"the folder {folder.relative_to(folder.parents[1])} in it, which was just created",
            got=error.strerror,
            do="use an --out on a disk that all workers mount at the same path, or in object storage",
        )
    return None


def _film_problem(where: str, film: Location, num_bytes: int) -> ConfigError | None:
    try:
        if (found_bytes := _num_bytes(film)) == num_bytes:
            return None
        got = f"{found_bytes:,} bytes"
    except OSError as error:
        got = str(error.strerror)
    return ConfigError(
        f"{where}: does not see the films of this command, such as {film}",
        expected=f"{num_bytes:,} bytes",
        got=got,
        do="use --images on a disk that all workers mount at the same path, or in object storage that all can read",
    )


def _with_worker(error: WdsBoneError, address: str) -> WdsBoneError:
    problem = f"{error.problem} (on worker {address})"
    return type(error)(problem, expected=error.expected, got=error.got, do=error.do)
