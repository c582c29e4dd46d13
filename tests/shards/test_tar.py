import hashlib
import io
import os
import resource
import tarfile
import time
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.shards.tars import BLOCK, END, header, member, sample, tar_of, tarfile_of
from wds_bone.errors import ShardError
from wds_bone.shards.tar import MAX_MEMBER_BYTES, Member, members


def read(contents: bytes, folder: Path) -> list[Member]:
    path = folder / "shard.tar"
    path.write_bytes(contents)
    with path.open("rb") as shard:
        return read_open(shard, path)


def read_open(shard: BinaryIO, path: Path) -> list[Member]:
    shard.seek(0)
    return list(members(shard, str(path), digest=hashlib.sha256()))


contents_lists = st.lists(
    st.tuples(st.from_regex("[abc0_-]{1,40}/?[abc.]{1,40}", fullmatch=True), st.binary(max_size=1200)), max_size=6
)


@given(contents_lists)
def test_members_and_offsets_equal_those_of_tarfile(tmp_path_factory, pairs):
    folder = tmp_path_factory.mktemp("tar")
    found = read(tarfile_of(pairs, tarfile.USTAR_FORMAT), folder)
    assert [(m.name, m.contents) for m in found] == pairs
    with tarfile.open(folder / "shard.tar") as tar:
        assert [m.offset for m in found] == [entry.offset_data for entry in tar]


def test_the_digest_covers_every_byte_of_the_file(tmp_path: Path):
    contents = tar_of(sample()) + bytes(8 * BLOCK)
    path = tmp_path / "shard.tar"
    path.write_bytes(contents)
    digest = hashlib.sha256()
    with path.open("rb") as shard:
        list(members(shard, str(path), digest=digest))
    assert digest.hexdigest() == hashlib.sha256(contents).hexdigest()


def test_a_long_name_is_read_from_two_fields(tmp_path: Path):
    name = "folder/" * 14 + "hand-1.json"
    assert len(name) > 100
    assert read(tarfile_of([(name, b"{}")], tarfile.USTAR_FORMAT), tmp_path)[0].name == name


FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


@pytest.mark.parametrize("tar_format", FORMATS)
def test_folders_and_large_owners_are_passed_over(tmp_path: Path, tar_format: int):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as tar:
        for name, contents in [("./", None), ("./set/", None), *sample("./set/hand-1")]:
            entry = tarfile.TarInfo(name)
            entry.type = tarfile.DIRTYPE if contents is None else tarfile.REGTYPE
            entry.uid = entry.gid = 2**21 - 1 if tar_format == tarfile.USTAR_FORMAT else 4_000_000_000
            entry.size, entry.mtime = len(contents or b""), 2**33 if tar_format == tarfile.PAX_FORMAT else 7
            tar.addfile(entry, io.BytesIO(contents or b""))
    found = read(buffer.getvalue(), tmp_path)
    assert [(m.name, m.contents) for m in found] == sample("./set/hand-1")


def test_gnu_tar_keeps_times_in_the_field_of_the_prefix(tmp_path: Path):
    block = header(b"hand-1.json", magic=b"ustar  \0", prefix=b"14712345670 14712345670 ")
    assert [m.name for m in read(block + END, tmp_path)] == ["hand-1.json"]


@given(st.text(st.characters(exclude_characters="\0\n/", codec="utf-8"), min_size=90, max_size=300))
def test_a_path_in_a_pax_header_is_the_name_of_the_next_member_only(tmp_path_factory, name: str):
    contents = tarfile_of([(name, b"1"), ("b.json", b"2")], tarfile.PAX_FORMAT, mtime=1.5)
    found = read(contents, tmp_path_factory.mktemp("pax"))
    assert [(m.name, m.contents) for m in found] == [(name, b"1"), ("b.json", b"2")]


@pytest.mark.fault("D3")
def test_members_that_are_not_wanted_need_no_memory_whatever_their_size(tmp_path: Path):
    path, size = tmp_path / "shard.tar", 3 * MAX_MEMBER_BYTES
    with path.open("wb") as shard:
        shard.write(header(b"hand-1.pth", b"%011o\0" % size))
        shard.truncate(BLOCK + size)
        shard.seek(0, 2)
        shard.write(tar_of(sample()))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with path.open("rb") as shard:
        found = list(members(shard, str(path), digest=hashlib.sha256(), is_wanted=lambda name: "pth" not in name))
    assert [m.name for m in found] == ["hand-1.pth", "hand-1.npy", "hand-1.json"]
    assert found[0].contents == b""
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024  # kilobytes


def test_pax_headers_that_only_carry_times_are_skipped(tmp_path: Path):
    found = read(tarfile_of(sample(), tarfile.PAX_FORMAT, mtime=1.5), tmp_path)
    assert [m.name for m in found] == ["hand-1.npy", "hand-1.json"]


@pytest.mark.fault("D1")
def test_a_tar_truncated_at_any_byte_is_refused_with_shard_and_offset(tmp_path: Path):
    path = tmp_path / "shard.tar"
    path.write_bytes(tar_of([*sample(), *sample("hand-2"), *sample("hand-3")]))
    with path.open("r+b") as shard:
        for length in reversed(range(path.stat().st_size)):
            shard.truncate(length)
            with pytest.raises(
                ShardError,
                match=r"shard\.tar: not a wds_bone shard: mismatch at byte [0-9,]+\n"
                r"  expected: at least [0-9,]+ bytes\n",
            ):
                read_open(shard, path)


@pytest.mark.fault("D2")
def test_every_flipped_bit_of_a_header_is_refused(tmp_path: Path):
    good, path = tar_of(sample()), tmp_path / "shard.tar"
    path.write_bytes(good)
    with path.open("r+b", buffering=0) as shard:
        for bit in range(8 * BLOCK):
            byte = good[bit // 8]
            os.pwrite(shard.fileno(), bytes([byte ^ 1 << bit % 8]), bit // 8)
            with pytest.raises(ShardError, match=r"shard\.tar: not a wds_bone shard: mismatch at byte 0\n"):
                read_open(shard, path)
            os.pwrite(shard.fileno(), bytes([byte]), bit // 8)


CRAFTED = {
    "a hard link": header(kind=b"1", link=b"/etc/passwd") + END,
    "a symbolic link": header(kind=b"2", link=b"/etc/passwd") + END,
    "a device": header(kind=b"3") + END,
    "a folder with contents": header(name=b"folder/", size=b"00000000010\0", kind=b"5") + bytes(BLOCK) + END,
    "a volume label": header(kind=b"V", magic=b"\0" * 8) + END,
    "a contiguous file": header(kind=b"7") + END,
    "a pipe": header(kind=b"6") + END,
    "a sparse member": header(kind=b"S") + END,
    "a GNU long name": member("././@LongLink", b"x" * 200, kind=b"L") + END,
    "a PAX link": member("PaxHeader", b"20 linkpath=/etc/pw\n", kind=b"x") + tar_of(sample()),
    "a PAX character set": member("PaxHeader", b"21 hdrcharset=BINARY\n", kind=b"x") + tar_of(sample()),
    "a sparse PAX member": member("PaxHeader", b"22 GNU.sparse.major=1\n", kind=b"x") + tar_of(sample()),
    "a PAX record of a wrong length": member("PaxHeader", b"30 mtime=1700000000\n", kind=b"x") + tar_of(sample()),
    "a PAX record of length 0": member("PaxHeader", b"0 mtime=1700000000\n", kind=b"x") + tar_of(sample()),
    "a PAX path that is not UTF-8": member("PaxHeader", b"10 path=\xff\n", kind=b"x") + tar_of(sample()),
    "a PAX header before another one": 2 * member("PaxHeader", b"20 mtime=1700000000\n", kind=b"x") + tar_of(sample()),
    "a PAX header before the end": tar_of(sample())[: -2 * BLOCK]
    + member("PaxHeader", b"20 mtime=1700000000\n", kind=b"x")
    + END,
    "PAX records of 4,100 bytes": member("PaxHeader", 205 * b"20 mtime=1700000000\n", kind=b"x") + tar_of(sample()),
    "a million digits in a PAX header": member("PaxHeader", b"1" * 10**6, kind=b"x") + tar_of(sample()),
    "a PAX size": member("PaxHeader", b"18 size=9999999999\n", kind=b"x") + tar_of(sample()),
    "a global PAX header": member("PaxHeader", b"20 mtime=1700000000\n", kind=b"g") + tar_of(sample()),
    "an old tar": header(magic=b"\0" * 8) + END,
    "a size of 2^62": header(size=b"\x80\0\0\0\x40\0\0\0\0\0\0\0") + END,
    "a size of 8 GiB": header(size=b"77777777777\0") + END,
    "a size above the cap": header(size=b"%011o\0" % (MAX_MEMBER_BYTES + 1)) + END,
    "a negative size": header(size=b"\xff" * 12) + END,
    "a size with a sign": header(size=b"-0000000001\0") + END,
    "a size in decimal": header(size=b"00000000099\0") + END,
    "a name that is not UTF-8": header(name=b"\xff\xfe.json") + END,
    "bytes in the padding": member("hand-1.json", b"{}")[:-1] + b"x" + END,
    "a gzip file": b"\x1f\x8b\x08\0" + bytes(600),
    "an HTML page": b"<html>Please log in</html>".ljust(1024),
    "no end mark": member("hand-1.json", b"{}"),
    "half an end mark": member("hand-1.json", b"{}") + bytes(BLOCK),
    "another tar after the end": tar_of(sample()) + tar_of(sample("hand-2")),
    "text after the end": tar_of(sample()) + b"and more",
}


@pytest.mark.fault("D3", "D5", "I3")
@pytest.mark.parametrize("contents", CRAFTED.values(), ids=CRAFTED.keys())
def test_a_tar_that_no_shard_writer_writes_is_refused(tmp_path: Path, contents: bytes):
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(ShardError, match="not a wds_bone shard: mismatch at byte") as caught:
        read(contents, tmp_path)
    assert caught.value.expected
    assert caught.value.got
    assert caught.value.do
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 * 1024  # kilobytes
    assert time.process_time() - began < 1


@pytest.mark.fault("D2", "D3", "D5")
@given(st.binary(max_size=3 * BLOCK), st.integers(0, 3 * BLOCK))
def test_random_bytes_anywhere_give_members_or_a_shard_error(tmp_path_factory, noise, position):
    good = bytearray(tar_of(sample()))
    good[position : position + len(noise)] = noise
    try:
        read(bytes(good), tmp_path_factory.mktemp("noise"))
    except ShardError as error:
        assert "shard.tar" in str(error)  # noqa: PT017
