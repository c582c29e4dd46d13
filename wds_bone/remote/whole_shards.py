"""Keep shards that have no index: they are read completely to make one, and should not be fetched a second time.

In: the URL of a shard.
Out: a file in the cache.
Invariant: `<key>.digest`, where the key is the sha256 of URL, ETag and size, contains the digest of one version of an
object, whose copy is `<digest>.tar`; it is compared with the digest before it is used. The processes of a host fetch a
shard once. Nothing that this object has kept makes room for another shard.
"""

import hashlib
import os
import time
from contextlib import closing, suppress
from typing import BinaryIO

import numpy as np

from wds_bone.objects.clients import client_of
from wds_bone.objects.protocol import ChangedError
from wds_bone.objects.url import Url
from wds_bone.remote.cache import Cache, sha256_of
from wds_bone.remote.part_file import PartFile, is_free
from wds_bone.remote.shard import RemoteShard

CHUNK_BYTES = 2**20
POLL_SECONDS = 0.05


class WholeShards:
    """The shards of a cache that have no index. Thread-safe.

    Args:
        cache: where they are kept.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache, self._kept = cache, set[str]()

    def open(self, url: Url) -> BinaryIO | None:
        """Return the file of a shard, which is fetched if it is not there; None if it cannot be kept.

        Raises:
            OSError: if it cannot be fetched.
        """
        version = client_of(url).version(url)
        if not version.tag:
            return None  # nothing tells it from another one of this size
        key = hashlib.sha256(f"{url}\n{version.tag}\n{version.num_bytes}".encode()).hexdigest()
        shard = RemoteShard(url, key, version.num_bytes, np.array([version.num_bytes]))
        while (found := self._open_kept(shard)) is None:
            part = self._cache.open(shard, lambda: dict.fromkeys(list(self._kept), 0))
            if part is None:
                return None
            if _claims(part):
                return self._open_kept(shard) if self._fetch(part) else None
            time.sleep(POLL_SECONDS)  # another process is fetching it, or its claim expires
        return found

    def _open_kept(self, shard: RemoteShard) -> BinaryIO | None:
        """Return the file of a shard; None if it is not there, or cannot be read. Delete one with other contents."""
        folder = self._cache.folder
        with suppress(OSError):
            digest = folder.read_record(shard.sha256)
            descriptor = None if digest is None else folder.open(digest, "tar", shard.num_bytes)
            if digest is None or descriptor is None:
                return None
            file = os.fdopen(descriptor, "rb")
            if sha256_of(descriptor) == digest:
                self._kept.add(digest)
                os.utime(descriptor)  # in use
                return file
            with file, folder.locked():
                folder.delete(digest, descriptor)
        return None

    def _fetch(self, part: PartFile) -> bool:
        """Fetch a shard and publish it; return False if the disk fails."""
        shard, position = part.shard, 0
        try:
            with closing(client_of(shard.url).open(shard.url)) as source:
                while contents := source.read(CHUNK_BYTES):
                    if not self._write(part, position, contents):
                        return False
                    position += len(contents)
            if position != shard.num_bytes:
                raise ChangedError(f"it was replaced: it has {position:,} bytes instead of {shard.num_bytes:,}")
        except BaseException:
            self._cache.drop(part)
            raise
        self._cache.publish_whole(part)
        return True

    def _write(self, part: PartFile, position: int, contents: bytes) -> bool:
        try:
            part.claim(0, 1)  # again, because a claim expires
            part.write_at(position, memoryview(contents))
        except OSError as error:
            self._cache.drop(part, error)
            return False
        return True


def _claims(part: PartFile) -> bool:
    """Return whether the calling thread must fetch a shard, and tell all processes that it does so."""
    with part.exclusive():
        if is_missing := is_free(part.marks()[0]):
            part.claim(0, 1)
    return is_missing
