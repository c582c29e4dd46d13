"""Shards of random bytes, and where their images are."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from tests.remote.folder_objects import FolderObjects
from wds_bone.objects.url import parse_url
from wds_bone.remote.cache import Cache
from wds_bone.remote.shard import RemoteShard
from wds_bone.remote.storage import NextUse, RemoteStorage

IMAGE_BYTES, GAP_BYTES = 3000, 700


@dataclass
class Store:
    """Shards of random bytes in a folder, each with the same number of images.

    Attributes:
        folder: where they are.
        shards: their descriptions.
        contents: their bytes.
        num_images: of each shard.
        clients: all clients that were opened.
    """

    folder: Path
    shards: list[RemoteShard]
    contents: list[bytes]
    num_images: int
    clients: list[FolderObjects] = field(default_factory=list)

    @property
    def num_bytes(self) -> int:
        return sum(map(len, self.contents))

    @property
    def fetched_bytes(self) -> int:
        return sum(client.traffic.bytes_fetched for client in self.clients)

    def open(self, cache: Cache | None = None, *, next_use: NextUse | None = None) -> RemoteStorage:
        self.clients.append(FolderObjects(self.folder))
        return RemoteStorage(self.shards, {"http": self.clients[-1]}, cache=cache, next_use=next_use)

    def offset(self, image: int) -> int:
        return GAP_BYTES + image * (IMAGE_BYTES + GAP_BYTES)

    def check(self, storage: RemoteStorage, shard: int, image: int) -> None:
        """Read an image, and compare its bytes."""
        assert self.read(storage, shard, image) == self.expected(shard, image)

    def read(self, storage: RemoteStorage, shard: int, image: int) -> bytes:
        parts = [memoryview(bytearray(1000)), memoryview(bytearray(IMAGE_BYTES - 1000))]
        storage.read(shard, self.offset(image), size=IMAGE_BYTES, into=parts)
        return b"".join(parts)

    def expected(self, shard: int, image: int) -> bytes:
        start = self.offset(image)
        return self.contents[shard][start : start + IMAGE_BYTES]

    def announce(self, storage: RemoteStorage, shard: int, image: int) -> None:
        storage.prefetch(shard, self.offset(image), IMAGE_BYTES)

    def all_images(self) -> list[tuple[int, int]]:
        """Return all pairs of shard and image, shuffled."""
        pairs = [(shard, image) for shard in range(len(self.shards)) for image in range(self.num_images)]
        np.random.default_rng(1).shuffle(pairs)
        return [(int(shard), int(image)) for shard, image in pairs]


def make_store(folder: Path, *, num_shards: int = 4, num_images: int = 12) -> Store:
    generator = np.random.default_rng(0)
    folder.mkdir()
    shards, contents = [], []
    for number in range(num_shards):
        name = f"train-{number:06d}.tar"
        contents.append(generator.bytes(num_images * (IMAGE_BYTES + GAP_BYTES) + 1024))
        (folder / name).write_bytes(contents[-1])
        digest = hashlib.sha256(contents[-1]).hexdigest()
        ends = (np.arange(num_images) + 1) * (IMAGE_BYTES + GAP_BYTES)
        shards.append(RemoteShard(parse_url(f"http://server/set/{name}"), digest, len(contents[-1]), ends))
    return Store(folder, shards, contents, num_images)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path / "store")
