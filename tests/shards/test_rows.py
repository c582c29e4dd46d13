"""A sample table that anybody can have changed is refused, or read as it is, before anything relies on it."""

import hashlib
import io
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.sample_sets import write_set
from wds_bone.errors import ShardError
from wds_bone.shards.manifest import MANIFEST_NAME, read_manifest, write_manifest
from wds_bone.shards.rows import check_rows
from wds_bone.shards.samples import SampleTable, is_key, make_table, sample_dtype, table_as_bytes, table_from_bytes
from wds_bone.shards.sidecars import read_sidecar
from wds_bone.stream.selection import select_shards


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_set(tmp_path / "set", train=[4])


def index_of(folder: Path) -> Path:
    return folder / "train-000000.index.npy"


def reseal(folder: Path, contents: bytes) -> None:
    """Replace the index, and write a manifest with its digest."""
    index_of(folder).write_bytes(contents)
    manifest = read_manifest(folder / MANIFEST_NAME)
    split = manifest.splits["train"]
    shards = (replace(split.shards[0], index_sha256=hashlib.sha256(contents).hexdigest()),)
    write_manifest(folder, replace(manifest, splits={"train": replace(split, shards=shards)}))


def table_of(folder: Path) -> SampleTable:
    return table_from_bytes(index_of(folder).read_bytes(), "index").copy()


WRONG = {
    "age NaN": ("age_months", 1, np.nan),
    "age infinite": ("age_months", 1, np.inf),
    "age -1": ("age_months", 1, -1),
    "age 241": ("age_months", 1, 241),
    "gender Z": ("gender", 2, b"Z"),
    "no gender": ("gender", 0, b""),
    "encoding xyz": ("encoding", 3, b"xyz"),
    "size 0": ("size", 0, 0),
    "size of 4 GiB": ("size", 3, 2**32 - 1),
    "size that overlaps the next sample": ("size", 0, 4000),
    "offset beyond the shard": ("offset", 3, 10**7),
    "offset of 2^64 - 1": ("offset", 3, 2**64 - 1),
    "offset that wraps around": ("offset", 3, 2**64 - 512),
    "offset before the first header": ("offset", 0, 0),
    "offset inside a block": ("offset", 1, 2100),
    "unsorted rows": ("offset", 0, 5632),
    "no key": ("key", 0, b""),
    "key that is not UTF-8": ("key", 0, b"\xff\xfe"),
    "key with a control character": ("key", 0, b"a\n"),
    "key with a NUL": ("key", 0, b"a\0b"),
    "key with a parent folder": ("key", 0, b"../a"),
    "key with a leading slash": ("key", 0, b"/a"),
    "key with a last slash": ("key", 0, b"a/"),
    "duplicate key": ("key", 0, b"hand-1"),
}


@pytest.mark.fault("D7", "D4")
@pytest.mark.parametrize(("column", "row", "value"), WRONG.values(), ids=WRONG.keys())
def test_a_row_out_of_range_is_refused_at_opening_even_with_its_digest(
    folder: Path, column: str, row: int, value: object
):
    table = table_of(folder)
    table[column][row] = value
    reseal(folder, table_as_bytes(table))
    with pytest.raises(ShardError, match=r"train-000000\.(index\.npy|tar): (?s:.*)do: ") as caught:
        select_shards(folder)
    assert caught.value.expected
    assert caught.value.got


@pytest.mark.fault("D7")
@pytest.mark.parametrize(("column", "value"), [("gender", b"M"), ("age_months", 3.5)])
def test_labels_that_disagree_with_the_statistics_are_refused_at_opening(folder: Path, column: str, value: object):
    table = table_of(folder)
    table[column] = value
    reseal(folder, table_as_bytes(table))
    with pytest.raises(ShardError, match=r"split 'train': the labels are not those of the manifest"):
        select_shards(folder)


@pytest.mark.fault("D7")
@pytest.mark.parametrize("rows", [[0, 1, 2], [0, 0, 1, 2, 3]])
def test_rows_that_are_missing_or_added_are_refused_at_opening(folder: Path, rows: list[int]):
    reseal(folder, table_as_bytes(table_of(folder)[rows]))
    with pytest.raises(ShardError, match=rf"(?s)samples are missing or added.*4 rows, as in the manifest.*{len(rows)}"):
        select_shards(folder)


def npy(header: str, rows: bytes = b"") -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + rows


DESCR = np.lib.format.dtype_to_descr(sample_dtype(6))


@pytest.mark.fault("D7")
@pytest.mark.parametrize(
    "shape", [f"({2**40},)", f"({2**31},)", "(-1,)", "(1, 1)", "()", f"({10**30},)", "(1.5,)", "(None,)"]
)
def test_a_header_that_claims_other_rows_than_the_file_has_is_refused_without_allocating_them(shape: str):
    header = npy(f"{{'descr': {DESCR}, 'fortran_order': False, 'shape': {shape}}}", bytes(64))
    tracemalloc.start()
    with pytest.raises(ShardError, match="not a sample table"):
        table_from_bytes(header, "index")
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()


@pytest.mark.fault("D7")
@settings(max_examples=300)
@given(st.data())
def test_any_change_of_an_index_with_a_new_digest_is_refused_or_read_as_it_is(
    tiny_shards: Path, tmp_path_factory, data
):
    folder = tmp_path_factory.getbasetemp()
    entry = read_manifest(tiny_shards / MANIFEST_NAME).shard_entries["train-000001.tar"]
    contents = bytearray((tiny_shards / "train-000001.index.npy").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(contents) - 1))
        contents[position : position + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    (folder / "train-000001.index.npy").write_bytes(contents)
    try:
        table = read_sidecar(folder, replace(entry, index_sha256=hashlib.sha256(contents).hexdigest()))
    except ShardError as error:
        assert error.do  # noqa: PT017
    else:
        assert table_as_bytes(table) == table_as_bytes(np.load(io.BytesIO(bytes(contents))))
        assert all(key.decode().isprintable() for key in table["key"].tolist())
        assert table["size"].max() <= entry.shard_bytes


keys = st.one_of(st.binary(max_size=8), st.text("aZ0_-/. ö\0", max_size=8).map(str.encode))


@given(st.lists(keys, min_size=1, max_size=20))
def test_the_check_of_many_keys_agrees_with_the_check_of_one(keys: list[bytes]):
    column = np.array(keys, "S12")
    rows = make_table([(key, 512 + 1024 * n, 100, 0, 1.0, b"F", b"jpg") for n, key in enumerate(keys)])
    rows["key"] = column
    are_good = all(is_key(bytes(key)) for key in rows["key"])
    try:
        check_rows(rows, Path("index"), shard_bytes=2**20, do="nothing")
    except ShardError:
        assert not are_good
    else:
        assert are_good


def big_table(count: int) -> NDArray[np.void]:
    table = np.zeros(count, sample_dtype(9))
    table["key"] = np.arange(10**8, 10**8 + count).astype("S9")
    table["offset"], table["size"] = 512 + 1024 * np.arange(count), 512
    table["gender"], table["encoding"] = b"F", b"npy"
    return table


def test_rows_are_checked_fast_enough_for_ten_million_at_opening():
    table = big_table(500_000)
    began = time.process_time()
    check_rows(table, Path("index"), shard_bytes=2**40, do="nothing")
    assert time.process_time() - began < 1  # 0.05 s on an idle core
    for number in (2**17 - 1, 400_000):  # the last row of a chunk, and one inside a chunk
        table["size"][number] = 513  # the padded image overlaps the next header
        with pytest.raises(ShardError, match=f"row {number + 1:,}"):
            check_rows(table, Path("index"), shard_bytes=2**40, do="nothing")
        table["size"][number] = 512
