"""The folder of a cache stays within its bounds, whoever shares it."""

import resource
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.remote.conftest import Store, make_store
from tests.remote.test_storage import descriptors, kept_bytes, tars, wait_until
from wds_bone.remote import cache_folder
from wds_bone.remote.cache import NEVER, Cache


def published(folder: Path) -> set[bytes]:
    return {path.read_bytes() for path in tars(folder)}


def test_processes_that_move_on_together_make_room_for_each_other(store: Store, tmp_path: Path) -> None:
    folder, bound, uses = tmp_path / "cache", 2 * len(store.contents[0]), np.array([0, 0, NEVER, NEVER])
    first, second = (store.open(Cache(folder, bound), next_use=lambda: uses) for _ in range(2))

    def read(*shards: int) -> bool:
        for shard in shards:
            for storage in (first, second):
                store.check(storage, shard, 0)
        return published(folder) == {store.contents[shard] for shard in shards}

    with closing(first), closing(second):
        wait_until(lambda: read(0, 1))
        uses[:] = [NEVER, NEVER, 0, 0]
        wait_until(lambda: read(2, 3))
    assert store.fetched_bytes < 2 * store.num_bytes


def test_what_an_idle_process_has_open_is_evicted_at_once_and_keeps_no_space(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, bound = tmp_path / "cache", len(store.contents[0])
    uses = np.array([NEVER, 0, 0, 0])
    with closing(store.open(Cache(folder, bound))) as idle, closing(store.open(Cache(folder, bound))) as busy:
        busy._next_use = lambda: uses
        store.check(idle, 0, 0)
        wait_until(lambda: published(folder) == {store.contents[0]})
        part = idle._part(0)
        assert part is not None
        store.check(busy, 1, 0)
        assert published(folder) == {store.contents[0]}
        monkeypatch.setattr(cache_folder, "IDLE_SECONDS", -1.0)
        wait_until(lambda: store.check(busy, 1, 0) is None and published(folder) == {store.contents[1]})
        assert Path(f"/proc/self/fd/{part.descriptor}").stat().st_size == 0
        monkeypatch.undo()
        for image in range(store.num_images):
            store.check(idle, 0, image)
        assert kept_bytes(folder) <= bound


@contextmanager
def open_files(limit: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_open_shards_are_bounded_by_the_open_files_of_a_process(tmp_path: Path) -> None:
    store, folder = make_store(tmp_path / "store", num_shards=40, num_images=3), tmp_path / "cache"
    with open_files(256), closing(store.open(Cache(folder))) as storage:
        for shard, image in store.all_images():
            store.check(storage, shard, image)
        wait_until(lambda: len([name for name in descriptors() if str(folder) in name]) <= 256 // 8)
        for shard, image in store.all_images():
            store.check(storage, shard, image)


def test_what_a_killed_process_has_half_created_is_deleted(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    with closing(store.open(Cache(folder))) as storage:
        store.check(storage, 0, 0)
        wait_until(lambda: len(tars(folder)) == 1)
    halves = [folder / f"{'0' * 64}.have", folder / f"{'1' * 64}.part"]
    whole = [folder / f"{'2' * 64}.have", folder / f"{'2' * 64}.part", *tars(folder), folder / "notes.part"]
    for path in (*halves, *whole[:2], whole[-1]):
        path.touch()
    Cache(folder)
    assert not [path for path in halves if path.exists()]
    assert [path for path in whole if path.exists()] == whole
