"""Open what reads the shards of a stream, wherever they are.

In: locations, and what a cache needs to know about them.
Out: a `Storage`.
Invariant: nothing that uses a storage knows the scheme of its shards.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wds_bone.errors import ConfigError
from wds_bone.objects.clients import open_client
from wds_bone.remote.cache import Cache, default_folder
from wds_bone.remote.fetch import MAX_BYTES_IN_FLIGHT
from wds_bone.remote.ready import MAX_BYTES_READY
from wds_bone.remote.shard import RemoteShard
from wds_bone.remote.storage import NextUse, RemoteStorage
from wds_bone.storage.local import LocalStorage
from wds_bone.storage.location import Location, Storage

NO_CACHE = "none"


@dataclass(frozen=True)
class CacheSettings:
    """Where shards in object storage are kept.

    Attributes:
        folder: the folder; "none" keeps nothing, and None takes the default one.
        max_bytes: the bound of all shards in it; None takes half of the disk space that is not used otherwise.
    """

    folder: str | Path | None = None
    max_bytes: int | None = None


def open_storage(
    shards: Sequence[Location | RemoteShard],
    cache: CacheSettings = CacheSettings(),  # frozen
    *,
    next_use: NextUse | None = None,
    batch_bytes: int = 2**20,
) -> Storage:
    """Return what reads byte ranges of shards, which are paths or all in object storage.

    Args:
        shards: the shards.
        cache: where those in object storage are kept.
        next_use: returns int64 (shards,), in how many samples each is needed next.
        batch_bytes: bytes of the images that are read at a time.

    Raises:
        ConfigError: if some shards are local and others are not, or the cache cannot be used.
        WdsBoneError: if the cache cannot be written to.
    """
    paths = [shard for shard in shards if isinstance(shard, Path)]
    remote = [shard for shard in shards if isinstance(shard, RemoteShard)]
    if not remote:
        return LocalStorage(paths)
    if paths:
        got, do = f"{paths[0]} and {remote[0].url}", "copy the local ones to where the others are"
        raise ConfigError("some shards are local and others are not", expected="one kind", got=got, do=do)
    clients = {scheme: open_client(scheme) for scheme in {shard.url.scheme for shard in remote}}
    return RemoteStorage(remote, clients, cache=open_cache(cache), next_use=next_use, batch_bytes=batch_bytes)


def buffer_bytes(shards: Sequence[Location | RemoteShard]) -> int:
    """Return how many bytes of images that are on their way, or wait for their turn, are in memory at most."""
    remote_bytes = sum(shard.num_bytes for shard in shards if isinstance(shard, RemoteShard))
    return min(remote_bytes, MAX_BYTES_READY + MAX_BYTES_IN_FLIGHT)


def open_cache(settings: CacheSettings) -> Cache | None:
    """Return the cache, or None if there is none; raises the errors of `open_storage` about it."""
    if settings.folder == NO_CACHE:
        return None
    folder = default_folder() if settings.folder is None else Path(settings.folder).expanduser()
    return Cache(folder, settings.max_bytes)
