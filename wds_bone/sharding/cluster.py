"""Write shards on a Dask cluster whose workers share the films and the set with this machine, on disks or in buckets.

In: plans of shards, and a client of the scheduler.
Out: their files and records in the staging folder.
Invariant: a worker writes only to a folder of its own, and only this process moves files from there to the staging
folder. So nothing that lost, late or cancelled workers write becomes a part of a set.
"""

import concurrent.futures
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wds_bone.errors import ConfigError, ShardError, WdsBoneError
from wds_bone.objects.url import Url
from wds_bone.phantom import Hand
from wds_bone.sharding.cluster_client import canceled_at_end, progress_poll, sample_counts
from wds_bone.sharding.cluster_task import SAME_ENVIRONMENT, Site, find_problem, local_versions, write_attempt
from wds_bone.sharding.plan import ShardPlan
from wds_bone.sharding.processes import POLL_SECONDS, WriterSettings
from wds_bone.sharding.sources import Source
from wds_bone.sharding.staging import adopt_shard, attempts_folder, run_marker
from wds_bone.storage.location import Location

if TYPE_CHECKING:
    from distributed import Client

MAX_SUBMITTED = 1000
"""The number of shards that the scheduler knows at a time: it keeps their plans in memory, up to 150 kB each."""
_RUN_AGAIN = "run the command again to continue where it stopped"

_Attempt = concurrent.futures.Future[str]


def write_shards_on_cluster(
    shards: Sequence[ShardPlan],
    settings: WriterSettings,
    *,
    client: "Client",
    images: Sequence[Location],
    show: Callable[[int], None],
) -> None:
    """Write `shards` on the workers of a cluster, and call `show` regularly with the number of samples done.

    Args:
        shards: the shards.
        settings: the settings of all of them; the folder must be shared with the workers, or be in object storage.
        client: a client of the scheduler.
        images: the folders of the films, which must be shared too.
        show: is called with the number of samples done.

    Raises:
        ConfigError: if a worker differs in its versions, or does not see the same folders; nothing has been written.
        WdsBoneError: if a shard cannot be written; the other tasks are canceled.
    """
    if not shards:
        return
    with attempts_folder(settings.folder) as folder, canceled_at_end(client) as executor:
        site = Site(local_versions(), _portable(run_marker(folder)), _probe_films(shards, images))
        _check_workers(client, site)
        remote = replace(settings, folder=_absolute(folder))
        submit = partial(_submit, executor, settings=remote, site=site)
        with sample_counts(client, topic=folder.name) as counts:
            poll = progress_poll(client, counts, show)
            for shard, attempt in _finished(shards, submit, poll):
                adopt_shard(settings.folder, folder / _name_of(attempt, shard), shard.name)
                counts[shard.name] = len(shard.sources)
            poll()


def _submit(
    executor: concurrent.futures.Executor, shard: ShardPlan, *, settings: WriterSettings, site: Site
) -> _Attempt:
    return executor.submit(write_attempt, _with_absolute_paths(shard), settings=settings, site=site)


def _portable(location: Location) -> str | Url:
    """Return a path as text, which means the same wherever a worker was started and whatever its version of Python."""
    return str(location.absolute()) if isinstance(location, Path) else location


def _finished(
    shards: Sequence[ShardPlan], submit: Callable[[ShardPlan], _Attempt], poll: Callable[[], None]
) -> Iterator[tuple[ShardPlan, _Attempt]]:
    """Submit all shards, not too many at a time, and yield each of them when its task has ended."""
    waiting, running = deque(shards), dict[_Attempt, ShardPlan]()
    while waiting or running:
        while waiting and len(running) < MAX_SUBMITTED:
            shard = waiting.popleft()
            running[submit(shard)] = shard
        ended, _ = concurrent.futures.wait(running, POLL_SECONDS, concurrent.futures.FIRST_COMPLETED)
        for attempt in ended:
            yield running.pop(attempt), attempt
        poll()


def _with_absolute_paths(shard: ShardPlan) -> ShardPlan:
    """Return `shard` with film paths that do not depend on the folder in which a worker was started."""

    def absolute(source: Source) -> Source:
        return source if isinstance(source.image, Hand) else replace(source, image=_absolute(source.image))

    return replace(shard, sources=tuple(map(absolute, shard.sources)))


def _absolute(location: Location) -> Location:
    return location.absolute() if isinstance(location, Path) else location


def _probe_films(shards: Sequence[ShardPlan], folders: Sequence[Location]) -> dict[str | Url, int]:
    """Return the path or URL, and the size, of a film in each folder: one that is not mounted may exist, but empty."""
    return {path: num_bytes for folder in folders for path, num_bytes in _first_film(shards, folder).items()}


def _first_film(shards: Sequence[ShardPlan], folder: Location) -> dict[str | Url, int]:
    for source in (source for shard in shards for source in shard.sources):
        if not isinstance(source.image, Hand) and _is_in(source.image, folder):
            return {_portable(source.image): int(source.fingerprint)}
    return {}


def _is_in(film: Location, folder: Location) -> bool:
    if isinstance(film, Path):
        return isinstance(folder, Path) and film.is_relative_to(folder)
    return isinstance(folder, Url) and film.host == folder.host and film.parts[: len(folder.parts)] == folder.parts


def _check_workers(client: "Client", site: Site) -> None:
    """Compare all workers with this machine; those that join later compare themselves before each task.

    Raises:
        ConfigError: if one of them differs.
    """
    for address, found in client.run(find_problem, site, on_error="return").items():
        if type(found) is Exception:  # how Dask reports that the worker cannot import the function
            raise _import_error(address, found)
        if isinstance(found, Exception) and not isinstance(found, OSError):  # OSError: the worker was lost
            raise found


def _import_error(address: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"worker {address}: cannot import the code of this command",
        expected=", ".join(f"{name} {version}" for name, version in local_versions().items()),
        got=error,
        do=SAME_ENVIRONMENT,
    )


def _name_of(attempt: _Attempt, shard: ShardPlan) -> str:
    """Return the name of the folder of a finished attempt.

    Raises:
        ShardError: if the workers that wrote the shard ended again and again.
        WdsBoneError: if the attempt failed, or the connection to the scheduler was lost.
    """
    from distributed import KilledWorker

    try:
        return Path(attempt.result()).name
    except KilledWorker as error:
        raise _killed_error(shard, error) from error
    except concurrent.futures.CancelledError as error:
        problem = f"{shard.name}: the connection to the scheduler was lost while the shard was written"
        raise WdsBoneError(problem, do=f"check the scheduler and its log, and {_RUN_AGAIN}") from error


def _killed_error(shard: ShardPlan, error: Any) -> ShardError:
    return ShardError(
        f"{shard.name}: all workers that wrote this shard ended before it was finished",
        expected=f"at most {error.allowed_failures} lost workers per shard",
        got=f"{error.allowed_failures + 1}, the last one {error.last_worker.address}",
        do=f"look at the log of this worker, give the workers more memory if it ran out, and {_RUN_AGAIN}",
    )
