"""All pieces of a shard are of one version."""

from concurrent.futures import ThreadPoolExecutor
from itertools import count
from threading import Barrier, Event

from tests.remote.conftest import Store
from tests.remote.folder_objects import FolderObjects
from tests.remote.test_storage import DEADLINE_SECONDS
from wds_bone.objects.protocol import Version
from wds_bone.objects.url import Url
from wds_bone.remote.demand import Piece
from wds_bone.remote.requests import Requests


class ReplacedObjects(FolderObjects):
    """A client whose object is replaced while two threads ask for its version: the second answer comes after a read."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.folder)
        self.both, self.has_read, self.numbers = Barrier(2), Event(), count()
        self.versions = list[Version | None]()

    def version(self, url: Url) -> Version:
        number = next(self.numbers)
        self.both.wait(DEADLINE_SECONDS)
        if number:
            assert self.has_read.wait(DEADLINE_SECONDS)
        return Version(super().version(url).num_bytes, f"version {number}")

    def read(self, url: Url, offset: int, size: int, *, version: Version | None = None) -> bytes:
        self.versions.append(version)
        self.has_read.set()
        return super().read(url, offset, size, version=version)


def test_threads_that_ask_for_the_version_of_a_shard_at_once_read_the_same_one(store: Store) -> None:
    client = ReplacedObjects(store)
    requests = Requests(store.shards, {"http": client})
    pieces = [Piece(0, number, number + 1, number * 100, number * 100 + 100, None) for number in range(2)]
    with ThreadPoolExecutor(2) as pool:
        assert all(isinstance(each, memoryview) for each in pool.map(requests.fetch, pieces, timeout=DEADLINE_SECONDS))
    assert [version.tag for version in client.versions if version is not None] == ["version 0"] * 2
