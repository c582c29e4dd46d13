"""Any damage to a shard is an error that says where it is; nothing is lost or changed silently."""

import hashlib
import os
import re
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from tests.sample_sets import write_set
from wds_bone import BoneAgeStream
from wds_bone.errors import ImageError, ShardError, WdsBoneError
from wds_bone.shards.manifest import MANIFEST_NAME, read_manifest, write_manifest
from wds_bone.shards.samples import table_as_bytes, table_from_bytes


def read_all(shards: Path | list[Path]) -> list[str]:
    split = "train" if isinstance(shards, Path) else None
    with BoneAgeStream(shards, split=split, batch_size=4, threads=2) as stream:  # type: ignore[arg-type]
        return [key for batch in stream for key in batch.key if key]


def flip(path: Path, offset: int, bit: int = 0) -> None:
    contents = bytearray(path.read_bytes())
    contents[offset] ^= 1 << bit
    path.write_bytes(contents)


def replace_shard(folder: Path, contents: bytes) -> None:
    """Replace the contents of the only shard, and write an index and a manifest with matching checksums."""
    (folder / "train-000000.tar").write_bytes(contents)
    table = table_from_bytes((folder / "train-000000.index.npy").read_bytes(), "index").copy()
    for row in table:
        row["crc32"] = zlib.crc32(contents[row["offset"] : row["offset"] + row["size"]])
    index = table_as_bytes(table)
    (folder / "train-000000.index.npy").write_bytes(index)
    manifest = read_manifest(folder / MANIFEST_NAME)
    split = manifest.splits["train"]
    digests = {"sha256": hashlib.sha256(contents).hexdigest(), "index_sha256": hashlib.sha256(index).hexdigest()}
    shards = (replace(split.shards[0], **digests),)
    write_manifest(folder, replace(manifest, splits={"train": replace(split, shards=shards)}))


ENCODINGS = pytest.mark.parametrize("encoding", ["jpg", "png", "npy"])


@pytest.mark.fault("C10")
@ENCODINGS
def test_a_flipped_bit_in_any_byte_of_an_image_is_detected(encoding: str, tmp_path: Path) -> None:
    shard = write_set(tmp_path, size=8, encoding=encoding, train=[2]) / "train-000000.tar"
    table = table_from_bytes((tmp_path / "train-000000.index.npy").read_bytes(), "index")
    intact = shard.read_bytes()
    start, size = int(table["offset"][0]), int(table["size"][0])
    for offset in range(start, start + size):
        flip(shard, offset, offset % 8)
        with pytest.raises(ShardError, match=r"(?s)train-000000.tar: sample 'hand-0' fails its checksum.*crc32 .*do:"):
            read_all(tmp_path)
        shard.write_bytes(intact)


@pytest.mark.fault("C10", "D7")
def test_a_flipped_bit_in_any_byte_of_an_index_is_detected(tmp_path: Path) -> None:
    index = write_set(tmp_path, size=8, train=[2]) / "train-000000.index.npy"
    intact = index.read_bytes()
    for offset in range(len(intact)):
        flip(index, offset, offset % 8)
        with pytest.raises(ShardError, match=r"train-000000.index.npy: is damaged"):
            read_all(tmp_path)
        index.write_bytes(intact)


@pytest.mark.fault("D1")
def test_a_shard_truncated_anywhere_is_detected(tmp_path: Path) -> None:
    shard = write_set(tmp_path, size=8, train=[2]) / "train-000000.tar"
    intact = shard.read_bytes()
    for length in range(0, len(intact), 97):
        shard.write_bytes(intact[:length])
        with pytest.raises(
            ShardError, match=re.escape(f"{len(intact):,} bytes") + r"(?s:.*)" + re.escape(f"{length:,} bytes")
        ):
            read_all(tmp_path)


@pytest.mark.fault("A10", "D1")
@ENCODINGS
def test_a_shard_that_shrinks_while_it_is_read_is_an_error(encoding: str, tmp_path: Path) -> None:
    shard = write_set(tmp_path, encoding=encoding, train=[30]) / "train-000000.tar"
    with BoneAgeStream(tmp_path, split="train", batch_size=2, shuffle=False, threads=1) as stream:
        loop = iter(stream)
        next(loop)
        with shard.open("r+b") as file:
            file.truncate(4096)
        with pytest.raises(ShardError, match="ends inside a sample at byte"):
            list(loop)


READ_WITH_A_SHORT_TIMEOUT = """
import os, sys
from threading import Event
from wds_bone import BoneAgeStream
from wds_bone.command_line import run_command
from wds_bone.commands import VERIFY

def read_all(_config, _interruption):
    with BoneAgeStream(sys.argv[1], split="train", batch_size=4, threads=2) as stream:
        stream._loader.stall_seconds = 1.0
        print("open", flush=True)
        sys.stdin.readline()
        read, hung = os.preadv, os.stat(f"{sys.argv[1]}/train-000001.tar").st_ino

        def preadv(file, *rest):  # blocks, as on a file server that no longer responds
            return Event().wait() if os.fstat(file).st_ino == hung else read(file, *rest)

        os.preadv = preadv
        list(stream)

sys.exit(run_command(VERIFY, parse=lambda: None, run=read_all))
"""


@pytest.mark.slow
@pytest.mark.fault("D8")
def test_a_read_that_hangs_is_an_error_that_names_the_sample_and_the_process_exits(tmp_path: Path) -> None:
    write_set(tmp_path, train=[9, 9])
    command = [sys.executable, "-c", READ_WITH_A_SHORT_TIMEOUT, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:  # type: ignore[call-overload]
        try:
            assert process.stdout.readline() == "open\n"
            _, error = process.communicate("go\n", timeout=60)
        finally:
            process.kill()
    assert process.returncode == 2
    assert re.search(
        r"(?s)train-00000\d.tar: sample 'hand-\d+': reading has stalled.*no bytes for 1 seconds.*do:", error
    )


def test_a_shard_that_becomes_a_named_pipe_is_refused_instead_of_blocking(tmp_path: Path) -> None:
    shard = write_set(tmp_path, train=[4]) / "train-000000.tar"
    with BoneAgeStream(tmp_path, split="train", batch_size=4, threads=1) as stream:
        shard.unlink()
        os.mkfifo(shard)
        with pytest.raises(ShardError, match="it is a named pipe, not a regular file"):
            list(stream)
    for path in (shard, tmp_path / "train-000000.index.npy", tmp_path / MANIFEST_NAME):
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        with pytest.raises(ShardError, match="it is a named pipe, not a regular file"):
            read_all(tmp_path)


@pytest.mark.fault("C1")
def test_a_missing_shard_is_an_error_before_the_first_batch(tmp_path: Path) -> None:
    (write_set(tmp_path, train=[3, 3]) / "train-000001.tar").unlink()
    with pytest.raises(ShardError, match=r"train-000001.tar: cannot be read: No such file"):
        read_all(tmp_path)


def test_a_shard_whose_image_size_differs_from_the_manifest_is_an_error(tmp_path: Path) -> None:
    write_set(tmp_path / "small", size=8, train=[3])
    write_set(tmp_path / "large", size=16, train=[3])
    for name in ("train-000000.tar", "train-000000.index.npy", "train-000000.idx"):
        (tmp_path / "small" / name).replace(tmp_path / "large" / name)
    with pytest.raises(WdsBoneError):
        read_all(tmp_path / "large")
    (tmp_path / "large" / MANIFEST_NAME).unlink()
    with BoneAgeStream(tmp_path / "large" / "train-000000.tar") as stream:
        assert stream.image_format.height == 8


@ENCODINGS
def test_the_error_for_an_image_of_the_wrong_size_names_shard_and_sample(encoding: str, tmp_path: Path) -> None:
    write_set(tmp_path, size=8, encoding=encoding, train=[3])
    manifest = read_manifest(tmp_path / MANIFEST_NAME)
    write_manifest(tmp_path, replace(manifest, image=replace(manifest.image, height=9)))
    with pytest.raises(ImageError, match=r"(?s)train-000000.tar: sample 'hand-\d' cannot be decoded.*9 x 8.*8 x 8"):
        read_all(tmp_path)


def test_the_error_for_a_raw_array_with_a_wrong_header_names_shard_and_sample(tmp_path: Path) -> None:
    shard = write_set(tmp_path, encoding="npy", train=[3]) / "train-000000.tar"
    replace_shard(tmp_path, shard.read_bytes().replace(b"'fortran_order': False", b"'fortran_order': True "))
    with pytest.raises(ImageError, match=r"(?s)train-000000.tar: sample 'hand-\d' cannot be decoded.*do:"):
        read_all(tmp_path)


@pytest.mark.fault("B1")
def test_an_unfinished_set_is_refused(tmp_path: Path) -> None:
    (write_set(tmp_path, train=[3]) / MANIFEST_NAME).unlink()
    (tmp_path / ".building").mkdir()
    with pytest.raises(ShardError, match="contains an unfinished run of `wds-bone make-shards`"):
        read_all([tmp_path / "train-000000.tar"])
