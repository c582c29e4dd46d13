"""The folder of a cache stays within its bounds, whoever shares it."""

import errno
import fcntl
import os
import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest

from tests.remote.conftest import IMAGE_BYTES, Store, make_store
from tests.remote.test_storage import DEADLINE_SECONDS, descriptors, kept_bytes, tars, wait_until
from wds_bone.remote import cache_folder
from wds_bone.remote.cache import NEVER, Cache
from wds_bone.remote.part_file import PartFile, flock


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


def test_a_shard_that_vanishes_while_room_is_made_leaves_the_cache_in_use(store: Store, tmp_path: Path) -> None:
    folder, bound = tmp_path / "cache", len(store.contents[0])
    before = Cache(folder, bound)
    assert before.open(store.shards[0], dict) is not None
    before.close()
    cache = Cache(folder, bound)

    def vanish() -> dict[str, int]:
        """Delete the shard after it has been found and before it is locked."""
        for path in (*folder.glob("*.part"), *folder.glob("*.have")):
            path.unlink()
        return {}

    cache.open(store.shards[1], vanish)
    assert cache.open(store.shards[1], dict) is not None


def complete_part(cache: Cache, store: Store) -> PartFile:
    """Return a part with all bytes of the first shard, which is not published yet."""
    part = cache.open(store.shards[0], dict)
    assert part is not None
    part.write(0, store.num_images, memoryview(store.contents[0]))
    return part


def test_a_complete_part_that_somebody_has_deleted_is_given_up(store: Store, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    part = complete_part(cache, store)
    (tmp_path / "cache" / f"{store.shards[0].sha256}.part").unlink()
    assert cache.publish(part) is None
    assert part.is_dropped
    assert cache.parts() == []


def test_the_folder_is_not_locked_while_a_shard_is_written_to_the_disk(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, could_lock = Cache(tmp_path / "cache"), list[bool]()
    part = complete_part(cache, store)

    def fsync(descriptor: int) -> None:
        if descriptor == part.descriptor:
            with (tmp_path / "cache" / cache_folder.LOCK_NAME).open() as lock:
                could_lock.append(flock(lock.fileno(), fcntl.LOCK_EX))

    monkeypatch.setattr("os.fsync", fsync)
    cache.publish(part)
    assert could_lock == [True]
    assert published(tmp_path / "cache") == {store.contents[0]}


def test_a_shard_is_read_from_a_disk_that_has_become_read_only(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, image = complete_part(Cache(tmp_path / "cache"), store), bytearray(IMAGE_BYTES)

    def utime(_descriptor: int) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("os.utime", utime)
    assert part.read(store.offset(3), size=IMAGE_BYTES, into=[image])
    assert image == store.expected(0, 3)


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


def test_a_shard_is_kept_if_a_process_has_no_descriptor_left_to_open_it(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    with closing(store.open(Cache(folder))) as storage:
        store.check(storage, 0, 0)
        wait_until(lambda: len(tars(folder)) == 1)
    files = Cache(folder).folder
    with open_files(3), pytest.raises(OSError, match="Too many open files"):
        files.open(store.shards[0].sha256, "tar", store.shards[0].num_bytes)
    assert published(folder) == {store.contents[0]}


def test_what_a_killed_process_has_half_created_is_deleted(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    with closing(store.open(Cache(folder))) as storage:
        store.check(storage, 0, 0)
        wait_until(lambda: len(tars(folder)) == 1)
    halves = [folder / f"{'0' * 64}.have", folder / f"{'1' * 64}.part", folder / f"{'3' * 64}.digest-new"]
    whole = [folder / f"{'2' * 64}.have", folder / f"{'2' * 64}.part", *tars(folder), folder / "notes.part"]
    for path in (*halves, *whole[:2], whole[-1]):
        path.touch()
    Cache(folder)
    assert not [path for path in halves if path.exists()]
    assert [path for path in whole if path.exists()] == whole


def test_a_record_that_is_being_written_again_is_read_complete(tmp_path: Path) -> None:
    folder, key, digest = Cache(tmp_path / "cache").folder, "0" * 64, "1" * 64
    folder.write_record(key, digest)
    with ThreadPoolExecutor(1) as pool:
        writes = pool.submit(lambda: [folder.write_record(key, digest) for _ in range(300)])
        while not writes.done():
            assert folder.read_record(key) == digest
        writes.result(DEADLINE_SECONDS)


def test_threads_that_need_a_shard_at_once_open_it_once(store: Store, tmp_path: Path) -> None:
    for attempt in range(10):
        cache, barrier = Cache(tmp_path / f"cache-{attempt}"), Barrier(8, timeout=DEADLINE_SECONDS)

        def open_first(_: int, cache: Cache = cache, barrier: Barrier = barrier) -> PartFile | None:
            barrier.wait()
            return cache.open(store.shards[0], dict)

        with ThreadPoolExecutor(8) as pool:
            parts = list(pool.map(open_first, range(8), timeout=DEADLINE_SECONDS))
        assert parts[0] is not None
        assert all(part is parts[0] for part in parts)


def test_a_process_that_has_just_opened_a_part_lets_others_claim_its_segments(store: Store, tmp_path: Path) -> None:
    parts = [Cache(tmp_path / "cache").open(store.shards[0], dict) for _ in range(2)]
    for part in parts:
        assert part is not None
        assert part._marks is not None
        assert flock(part._marks, fcntl.LOCK_EX)
        flock(part._marks, fcntl.LOCK_UN)
