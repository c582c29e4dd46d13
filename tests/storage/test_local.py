import os
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from wds_bone.errors import ShardError
from wds_bone.storage.local import MAX_OPEN_SHARDS, LocalStorage

CONTENTS = bytes(range(256)) * 40


def read(storage: LocalStorage, shard: int, offset: int, *sizes: int) -> list[bytes]:
    buffers = [memoryview(bytearray(size)) for size in sizes]
    storage.read(shard, offset, size=sum(sizes), into=buffers)
    return [bytes(buffer) for buffer in buffers]


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"train-{number:06d}.tar" for number in range(MAX_OPEN_SHARDS + 3)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) + CONTENTS)
    return paths


def test_buffers_are_filled_in_order_from_any_number_of_shards(shards: list[Path]) -> None:
    with closing(LocalStorage(shards)) as storage:
        for _ in range(2):
            for number in range(len(shards)):
                assert read(storage, number, 0, 1, 5) == [bytes([number]), CONTENTS[:5]]


@pytest.mark.fault("D1")
@pytest.mark.parametrize("sizes", [(10_300,), (10_000, 300)])
def test_the_error_for_a_shard_that_is_too_short_states_both_sizes(shards: list[Path], sizes: tuple[int, ...]) -> None:
    with (
        closing(LocalStorage(shards)) as storage,
        pytest.raises(ShardError, match=r"(?s)000000.tar: ends.*10,300.*10,241"),
    ):
        read(storage, 0, 0, *sizes)


def test_prefetching_does_not_change_what_is_read_and_never_raises(shards: list[Path]) -> None:
    with closing(LocalStorage(shards)) as storage:
        storage.prefetch(0, 0, 100)  # not open yet
        for number in range(len(shards)):
            assert read(storage, number, 1, 100) == [CONTENTS[:100]]
            storage.prefetch(number, 1, 100)
            storage.prefetch(number, 1 << 62, 100)
            assert read(storage, number, 1, 100) == [CONTENTS[:100]]
    storage.prefetch(0, 0, 100)  # closed


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has no posix_fadvise")
def test_prefetched_ranges_are_announced_to_the_kernel(shards: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    announced = list[tuple[int, int]]()
    monkeypatch.setattr("os.posix_fadvise", lambda _, offset, size, __: announced.append((offset, size)))
    with closing(LocalStorage(shards)) as storage:
        read(storage, 0, 0, 1)
        storage.prefetch(0, 7, 9)
    assert announced == [(7, 9)]


def descriptors() -> set[str]:
    return {str(path.resolve()) for path in Path("/proc/self/fd").iterdir()}


def test_a_short_read_is_continued(shards: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Network file systems may return fewer bytes than were asked for."""
    real = os.preadv

    def short(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        first = next(buffer for buffer in map(memoryview, buffers) if buffer.nbytes)
        return real(descriptor, [first.cast("B")[:7]], offset)

    monkeypatch.setattr(os, "preadv", short)
    pixels = np.zeros((10, 10), np.uint8)
    with closing(LocalStorage(shards)) as storage:
        assert read(storage, 0, 1, 5, 100, 3) == [CONTENTS[:5], CONTENTS[5:105], CONTENTS[105:108]]
        storage.read(0, 1, size=103, into=[memoryview(bytearray(3)), pixels])
        assert pixels.tobytes() == CONTENTS[3:103]
        with pytest.raises(ShardError, match=r"(?s)ends inside a sample at byte 10,000.*300 bytes.*241 bytes"):
            read(storage, 0, 10_000, 300)


def test_closing_during_a_read_does_not_let_it_read_another_file(
    shards: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of a descriptor that is closed is given to the next file that is opened."""
    real, storage = os.preadv, LocalStorage(shards)
    read(storage, 0, 0, 1)

    def close_first(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        storage.close()
        with (tmp_path / "other").open("wb+", buffering=0) as other:
            other.write(b"x" * 100)
            return real(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", close_first)
    assert read(storage, 0, 1, 5) == [CONTENTS[:5]]
    with pytest.raises(ShardError, match="the stream is closed"):
        read(storage, 0, 1, 5)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to list the open files")
@pytest.mark.parametrize("end", [LocalStorage.close, lambda storage: None])
def test_a_storage_that_is_closed_or_gone_leaves_no_file_open(
    end: Callable[[LocalStorage], None], shards: list[Path]
) -> None:
    storage = LocalStorage(shards)
    for number in range(len(shards)):
        read(storage, number, 0, 1)
    assert len(descriptors() & set(map(str, shards))) == MAX_OPEN_SHARDS
    end(storage)
    del storage
    assert not descriptors() & set(map(str, shards))
