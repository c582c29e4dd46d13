"""Bytes are right wherever they come from, each is fetched once, and nothing hangs or is left."""

import gc
import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest

from tests.remote.conftest import GAP_BYTES, IMAGE_BYTES, Store, make_store
from tests.remote.folder_objects import FolderObjects
from tests.threads import assert_threads_end
from wds_bone.errors import ShardError
from wds_bone.objects.protocol import ChangedError, RemoteError
from wds_bone.remote import cache as cache_module
from wds_bone.remote import fetch, part_file, ready
from wds_bone.remote.cache import Cache
from wds_bone.remote.storage import RemoteStorage

DEADLINE_SECONDS = 30.0


@pytest.fixture(params=["cache", "none"])
def storage(request: pytest.FixtureRequest, store: Store, tmp_path: Path) -> Iterator[RemoteStorage]:
    cache = Cache(tmp_path / "cache") if request.param == "cache" else None
    with closing(store.open(cache)) as storage:
        yield storage


def wait_until(condition: object) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.005)


def tars(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.tar"))


def test_every_image_is_read_as_it_is_stored_announced_or_not(store: Store, storage: RemoteStorage) -> None:
    for number, (shard, image) in enumerate(store.all_images()):
        if number % 3:
            store.announce(storage, shard, image)
        if number % 5 == 0:
            store.check(storage, shard, image)
    for shard, image in store.all_images():
        store.check(storage, shard, image)


def test_many_threads_read_at_once(store: Store, storage: RemoteStorage) -> None:
    pairs = store.all_images() * 3
    for shard, image in pairs:
        store.announce(storage, shard, image)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda pair: store.check(storage, *pair), pairs, timeout=DEADLINE_SECONDS))


def test_with_a_cache_every_byte_is_fetched_once_and_the_shards_are_published(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    with closing(store.open(Cache(folder))) as storage:
        for shard, image in store.all_images():
            store.check(storage, shard, image)
        wait_until(lambda: len(tars(folder)) == len(store.shards))
        wait_until(lambda: not list(folder.glob("*.have")))
        for shard, image in store.all_images():
            store.check(storage, shard, image)
        assert storage.counters().bytes_fetched == store.num_bytes
        assert storage.counters().cache_hits >= len(store.all_images())
    assert {path.read_bytes() for path in tars(folder)} == set(store.contents)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    with closing(store.open(Cache(folder))) as storage:
        for shard, image in store.all_images():
            store.check(storage, shard, image)
        assert storage.counters().bytes_fetched == 0
        assert not store.clients[-1].reads


def test_the_rest_of_a_shard_is_fetched_while_nothing_else_is_needed(store: Store, tmp_path: Path) -> None:
    with closing(store.open(Cache(tmp_path / "cache"))) as storage:
        store.check(storage, 2, 5)
        wait_until(lambda: [path.read_bytes() for path in tars(tmp_path / "cache")] == [store.contents[2]])
    assert store.fetched_bytes == len(store.contents[2])


def test_without_a_cache_only_images_are_fetched_and_neighbors_by_one_request(store: Store) -> None:
    with closing(store.open()) as storage:
        client = store.clients[-1]
        client.gate.clear()
        store.announce(storage, 0, 0)
        wait_until(lambda: client.reads)
        for image in (7, 5, 6, 9):
            store.announce(storage, 0, image)
        client.gate.set()
        for image in (0, 5, 6, 7, 9):
            store.check(storage, 0, image)
    gaps = 2 * (store.offset(1) - store.offset(0) - IMAGE_BYTES)
    assert sorted(size for _, _, size in client.reads) == [IMAGE_BYTES, IMAGE_BYTES, 3 * IMAGE_BYTES + gaps]


def test_what_a_thread_waits_for_comes_before_what_is_announced(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "MAX_THREADS", 1)
    with closing(store.open()) as storage, ThreadPoolExecutor(1) as pool:
        client = store.clients[-1]
        client.gate.clear()
        store.announce(storage, 0, 0)
        wait_until(lambda: client.reads)
        for image in (2, 4, 6):
            store.announce(storage, 0, image)
        read = pool.submit(store.check, storage, 3, 11)
        wait_until(lambda: storage._fetcher._inbox.qsize() == 4)
        client.gate.set()
        read.result(DEADLINE_SECONDS)
        assert [name for name, _, _ in client.reads].index("train-000003.tar") == 1


def test_memory_for_images_that_nobody_reads_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready, "MAX_BYTES_READY", 5 * IMAGE_BYTES)
    with closing(store.open()) as storage:
        for shard, image in store.all_images():
            store.announce(storage, shard, image)
        wait_until(lambda: store.fetched_bytes >= len(store.all_images()) * IMAGE_BYTES)
        wait_until(lambda: sum(map(len, storage._fetcher._ready._images.values())) <= 5 * IMAGE_BYTES)
        for shard, image in store.all_images():
            store.check(storage, shard, image)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (FileNotFoundError(2, "the server has no such file (HTTP 404)"), r"(?s)000001.tar: byte.*404.*upload"),
        (PermissionError(13, "the server refuses access (HTTP 403)"), r"(?s)000001.tar: byte.*403.*credentials"),
        (RemoteError("no answer"), r"(?s)000001.tar: byte 8,100 cannot be read: no answer.*3,000 bytes.*network"),
        (ChangedError("it was replaced"), r"(?s)000001.tar.*it was replaced.*manifest"),
    ],
)
def test_the_error_of_a_request_is_raised_by_the_read(
    error: OSError, text: str, store: Store, storage: RemoteStorage
) -> None:
    store.clients[-1].error = error
    store.announce(storage, 1, 2)
    with pytest.raises(ShardError, match=text):
        store.check(storage, 1, 2)
    store.clients[-1].error = None
    store.check(storage, 1, 2)


def test_an_object_of_another_size_than_its_index_says_has_changed(store: Store, storage: RemoteStorage) -> None:
    (store.folder / "train-000001.tar").write_bytes(store.contents[1] + b"more")
    with pytest.raises(ShardError, match=r"(?s)train-000001.tar.*45,428 bytes, not the 45,424"):
        store.check(storage, 1, 2)


def test_closing_ends_reads_that_wait_and_leaves_no_thread(store: Store, storage: RemoteStorage) -> None:
    before = threading.active_count()
    store.clients[-1].gate.clear()
    with ThreadPoolExecutor(3) as pool:
        reads = [pool.submit(store.check, storage, 1, image) for image in (0, 3, 6)]
        wait_until(lambda: store.clients[-1].reads)
        storage.close()
        for read in reads:
            with pytest.raises(ShardError, match="closed"):
                read.result(DEADLINE_SECONDS)
    assert_threads_end(before - 1)
    with pytest.raises(ShardError, match="the stream is closed"):
        store.check(storage, 0, 0)
    store.announce(storage, 0, 0)


def test_a_storage_that_is_gone_leaves_no_thread_and_no_file_open(store: Store, tmp_path: Path) -> None:
    before = threading.active_count()
    storage = store.open(Cache(tmp_path / "cache"))
    for shard, image in store.all_images():
        store.announce(storage, shard, image)
    store.check(storage, 0, 0)
    del storage
    gc.collect()
    assert_threads_end(before)
    wait_until(lambda: not [name for name in descriptors() if str(tmp_path / "cache") in name])


def descriptors() -> set[str]:
    return {str(path.resolve()) for path in Path("/proc/self/fd").iterdir()}


def flip_once(client: FolderObjects, position: int) -> None:
    """Change one byte of the first answer that contains it."""
    turns = iter([1])

    def change(offset: int, contents: bytes) -> bytes:
        if not offset <= position < offset + len(contents) or next(turns, None) is None:
            return contents
        index = position - offset
        return contents[:index] + bytes([contents[index] ^ 1]) + contents[index + 1 :]

    client.change = change


def test_bytes_that_fail_their_checksum_are_fetched_again(store: Store, storage: RemoteStorage) -> None:
    offset = store.offset(3)
    flip_once(store.clients[-1], offset + 10)
    assert store.read(storage, 2, 3) != store.expected(2, 3)
    assert storage.forget(2, offset, IMAGE_BYTES)
    store.check(storage, 2, 3)


def test_a_published_shard_with_wrong_bytes_is_replaced(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    with closing(store.open(Cache(folder))) as storage:
        store.check(storage, 1, 0)
        wait_until(lambda: len(tars(folder)) == 1)
    (tar,) = tars(folder)
    tar.write_bytes(bytes(len(store.contents[1])))
    with closing(store.open(Cache(folder))) as storage:
        assert store.read(storage, 1, 4) == bytes(IMAGE_BYTES)
        assert storage.forget(1, store.offset(4), IMAGE_BYTES)
        store.check(storage, 1, 4)
        wait_until(lambda: [path.read_bytes() for path in tars(folder)] == [store.contents[1]])


def test_a_shard_with_another_digest_is_fetched_twice_and_then_an_error(store: Store, tmp_path: Path) -> None:
    changed = bytearray(store.contents[0])
    changed[5] ^= 1  # in front of the first image, so that no checksum of a sample fails
    (store.folder / "train-000000.tar").write_bytes(changed)
    with closing(store.open(Cache(tmp_path / "cache"))) as storage:
        store.check(storage, 0, 1)
        wait_until(lambda: 0 in storage._fetcher.changed)
        digests = f"sha256 {store.shards[0].sha256}.*sha256 {hashlib.sha256(changed).hexdigest()}"
        with pytest.raises(
            ShardError, match=rf"(?s)000000.tar: its contents are not those .*{digests}.*upload it again"
        ):
            store.check(storage, 0, 1)
        store.check(storage, 1, 1)
    assert bytes(changed) not in [path.read_bytes() for path in tars(tmp_path / "cache")]
    assert store.fetched_bytes >= 2 * len(changed)


def test_a_shard_that_was_flipped_on_its_way_is_fetched_again(store: Store, tmp_path: Path) -> None:
    with closing(store.open(Cache(tmp_path / "cache"))) as storage:
        flip_once(store.clients[-1], 5)  # in front of the first image, so that no checksum of a sample fails
        store.check(storage, 0, 0)
        wait_until(lambda: [path.read_bytes() for path in tars(tmp_path / "cache")] == [store.contents[0]])


def test_two_streams_with_one_cache_fetch_every_byte_once(store: Store, tmp_path: Path) -> None:
    first, second = (store.open(Cache(tmp_path / "cache")) for _ in range(2))
    with closing(first), closing(second), ThreadPoolExecutor(4) as pool:
        reads = [pool.submit(store.check, one, *pair) for pair in store.all_images() for one in (first, second)]
        for read in reads:
            read.result(DEADLINE_SECONDS)
    # Two threads may claim a segment in the same instant.
    assert store.num_bytes <= store.fetched_bytes <= 1.1 * store.num_bytes


def test_a_claim_of_a_killed_process_expires(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(store.open(Cache(tmp_path / "cache"))) as storage:
        part = storage._part(0)
        assert part is not None
        part.claim(0, store.num_images)
        with ThreadPoolExecutor(1) as pool:
            read = pool.submit(store.check, storage, 0, 3)
            with pytest.raises(TimeoutError):
                read.result(0.2)
            monkeypatch.setattr(part_file, "CLAIM_SECONDS", -1)
            read.result(DEADLINE_SECONDS)


def test_what_a_killed_process_has_claimed_is_fetched_by_another_one_in_the_end(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(store.open(Cache(tmp_path / "cache"))) as storage:
        part = storage._part(0)
        assert part is not None
        part.claim(3, 7)
        store.check(storage, 0, 0)
        wait_until(lambda: len(store.contents[0]) - store.fetched_bytes == 4 * (IMAGE_BYTES + GAP_BYTES))
        monkeypatch.setattr(part_file, "CLAIM_SECONDS", -1)
        monkeypatch.setattr(storage, "_next_wake", 0.0)
        wait_until(lambda: store.check(storage, 0, 0) is None and len(tars(tmp_path / "cache")) == 1)


# Reads images until it is killed.
READ_FOREVER = """
import sys
from pathlib import Path
from tests.remote.conftest import make_store, Store
from tests.remote.test_storage import reopen
from wds_bone.remote.cache import Cache
store = reopen(Path(sys.argv[1]))
storage = store.open(Cache(Path(sys.argv[2])))
client = store.clients[0]
client.change = lambda offset, contents: (client.gate.clear() if len(client.reads) > 2 else None, contents)[1]
print("ready", flush=True)
for pair in store.all_images():
    store.check(storage, *pair)
"""


def reopen(folder: Path) -> Store:
    """Return the store that `make_store` wrote into a folder."""
    fresh = make_store(folder.with_name(f"{folder.name}-{os.getpid()}"))
    fresh.folder = folder
    return fresh


@pytest.mark.slow
def test_after_a_kill_the_rest_is_fetched_at_once(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    command = [sys.executable, "-c", READ_FOREVER, str(store.folder), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        wait_until(lambda: len(list(folder.glob("*.part"))) > 1)
        process.kill()
    began = time.monotonic()
    with closing(store.open(Cache(folder))) as storage:
        for shard, image in store.all_images():
            store.check(storage, shard, image)
        assert time.monotonic() - began < part_file.CLAIM_SECONDS / 2
        wait_until(lambda: {path.read_bytes() for path in tars(folder)} == set(store.contents))
    assert store.fetched_bytes < store.num_bytes


def kept_bytes(folder: Path) -> int:
    """Return the size of all shards in a cache; one that is just being renamed does not count."""
    total = 0
    for path in (*folder.glob("*.tar"), *folder.glob("*.part")):
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def test_a_cache_smaller_than_the_shards_keeps_what_fits(store: Store, tmp_path: Path) -> None:
    folder, bound = tmp_path / "cache", 2 * len(store.contents[0]) + 100
    with closing(store.open(Cache(folder, bound))) as storage:
        for shard, image in store.all_images() * 2:
            store.check(storage, shard, image)
            assert kept_bytes(folder) <= bound
        wait_until(lambda: len(tars(folder)) == 2)
    assert store.fetched_bytes < 2 * store.num_bytes


def test_what_is_needed_last_goes_first(store: Store, tmp_path: Path) -> None:
    folder, max_bytes, uses = tmp_path / "cache", 2 * len(store.contents[0]), np.array([100, 1000, 0, 0])
    with closing(store.open(Cache(folder, max_bytes))) as before:
        for shard in (0, 1):
            store.check(before, shard, 0)
        wait_until(lambda: len(tars(folder)) == 2)
    with closing(store.open(Cache(folder, max_bytes), next_use=lambda: uses)) as storage:
        store.check(storage, 2, 0)
        wait_until(lambda: len(tars(folder)) == 2)
        assert {path.read_bytes() for path in tars(folder)} == {store.contents[0], store.contents[2]}


def test_a_part_that_several_processes_use_is_not_evicted_until_the_last_one_ends(store: Store, tmp_path: Path) -> None:
    folder, size = tmp_path / "cache", len(store.contents[0])
    first, second, other = (Cache(folder, size) for _ in range(3))
    parts = {cache: cache.open(store.shards[0], dict[str, int]) for cache in (first, second)}
    assert all(parts.values())
    first.close()
    del parts[first]
    assert other.open(store.shards[1], dict[str, int]) is None
    assert list(folder.glob("*.part")) == [folder / f"{store.shards[0].sha256}.part"]
    second.close()
    parts.clear()
    assert other.open(store.shards[1], dict[str, int]) is not None


def test_a_shard_that_is_open_elsewhere_is_not_evicted(store: Store, tmp_path: Path) -> None:
    folder, size = tmp_path / "cache", len(store.contents[0])
    never_again = lambda: np.full(4, cache_module.NEVER)  # noqa: E731
    with closing(store.open(Cache(folder, size), next_use=never_again)) as user:
        store.check(user, 0, 0)
        wait_until(lambda: len(tars(folder)) == 1)
        with closing(store.open(Cache(folder, size), next_use=never_again)) as other:
            store.check(other, 1, 0)
            assert [path.read_bytes() for path in tars(folder)] == [store.contents[0]]
            user.close()
            wait_until(
                lambda: store.check(other, 1, 1) is None and store.contents[1] in [p.read_bytes() for p in tars(folder)]
            )
