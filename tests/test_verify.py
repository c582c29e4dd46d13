"""Test `wds-bone verify`: every kind of damage is reported, with its location."""

import shutil
from pathlib import Path

import pytest

from tests.sample_sets import write_set, write_shard
from wds_bone.shards.manifest import MANIFEST_NAME, manifest_as_bytes, read_manifest
from wds_bone.storage.durable import write_bytes_atomically
from wds_bone.verify import main


@pytest.fixture
def folder(tiny_shards: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_shards, tmp_path / "set"))


def verify(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.mark.parametrize("name", ["", MANIFEST_NAME, "train-{000000..000002}.tar", "train-*.tar", "val-000000.tar"])
@pytest.mark.parametrize("deep", [[], ["--deep"]])
def test_an_undamaged_set_has_no_problems(
    tiny_shards: Path, name: str, deep: list[str], capsys: pytest.CaptureFixture[str]
):
    assert verify(tiny_shards / name, *deep) == 0
    assert "no problems found" in capsys.readouterr().out


def flip(path: Path, position: int) -> None:
    contents = bytearray(path.read_bytes())
    contents[position] ^= 1
    path.write_bytes(contents)


@pytest.mark.fault("C10", "D2", "D7")
def test_a_flipped_bit_anywhere_in_a_file_is_reported_with_the_name_of_the_file(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    files = sorted(path for path in folder.iterdir() if path.name.startswith("val") or path.name == MANIFEST_NAME)
    for path in files:
        good = path.read_bytes()
        for position in range(0, len(good), max(1, len(good) // 12)):
            flip(path, position)
            assert verify(folder) == 1
            assert path.name in capsys.readouterr().out
            path.write_bytes(good)
    assert verify(folder) == 0


@pytest.mark.fault("C10")
def test_a_damaged_image_is_reported_with_its_key(folder: Path, capsys: pytest.CaptureFixture[str]):
    from wds_bone.shards.scan import scan_shard

    row = scan_shard(folder / "val-000000.tar").table[3]
    flip(folder / "val-000000.tar", int(row["offset"]) + int(row["size"]) - 20)
    assert verify(folder) == 1
    assert f"images that fail their checksums: {row['key'].decode()}" in capsys.readouterr().out


@pytest.mark.fault("C1", "D1", "D7")
def test_all_problems_are_listed_not_only_the_first(folder: Path, capsys: pytest.CaptureFixture[str]):
    (folder / "train-000000.tar").unlink()
    (folder / "train-000001.idx").unlink()
    flip(folder / "train-000002.index.npy", -1)
    with (folder / "val-000000.tar").open("ab") as shard:
        shard.truncate(700)
    write_shard(folder / "train-000009.tar", range(900, 902))
    assert verify(folder) == 1
    text = capsys.readouterr().out
    assert "train-000000.tar: cannot be read" in text
    assert "train-000001.idx: missing" in text
    assert "train-000002.index.npy: does not match train-000002.tar" in text
    assert "val-000000.tar: not a wds_bone shard: mismatch at byte" in text
    assert "train-000009.tar: is not listed in the manifest" in text


@pytest.mark.fault("D7")
def test_a_shard_of_another_set_is_reported(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_shard(folder / "val-000000.tar", range(100, 110))
    assert verify(folder) == 1
    text = capsys.readouterr().out
    assert "val-000000.tar: does not match the manifest" in text
    assert "split 'val': wrong label statistic" in text


@pytest.mark.fault("D7")
def test_wrong_label_statistics_are_reported(folder: Path, capsys: pytest.CaptureFixture[str]):
    manifest = read_manifest(folder / MANIFEST_NAME)
    manifest.splits["val"].labels["age_months"]["mean"] += 1
    write_bytes_atomically(folder / MANIFEST_NAME, manifest_as_bytes(manifest))
    assert verify(folder) == 1
    assert "split 'val': wrong label statistic 'age_months'" in capsys.readouterr().out


@pytest.mark.fault("D4")
def test_a_sample_in_two_splits_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from tests.sample_sets import write_split
    from wds_bone.shards.manifest import ImageFormat, Manifest, write_manifest

    splits = {name: write_split(tmp_path, name, [4], first=first) for name, first in (("train", 0), ("val", 3))}
    write_manifest(tmp_path, Manifest(ImageFormat("png", 16, 16), splits))
    assert verify(tmp_path) == 1
    assert "sample 'hand-3' is in train-000000.tar and in val-000000.tar" in capsys.readouterr().out


def test_an_image_that_cannot_be_decoded_is_reported_only_with_deep(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from tests.shards.tars import LABEL, image, tar_of

    broken = image(16, "png")[:-30].ljust(len(image(16, "png")), b"\0")
    (tmp_path / "train-000000.tar").write_bytes(tar_of([("hand-7.png", broken), ("hand-7.json", LABEL)]))
    assert verify(tmp_path) == 0
    assert verify(tmp_path, "--deep") == 1
    assert "train-000000.tar: sample 'hand-7' cannot be decoded" in capsys.readouterr().out


def test_images_whose_size_differs_from_the_manifest_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = write_set(tmp_path / "set", size=16, train=[3])
    small = write_set(tmp_path / "small", size=8, train=[3])
    for name in ("train-000000.tar", "train-000000.index.npy", "train-000000.idx"):
        shutil.copy(small / name, folder / name)
    assert verify(folder) == 1
    assert "images of the wrong size\n  expected: 16 x 16 pixels\n  got:      8 x 8 pixels" in capsys.readouterr().out


def test_an_unfinished_set_is_reported(folder: Path, capsys: pytest.CaptureFixture[str]):
    (folder / MANIFEST_NAME).unlink()
    (folder / ".building").mkdir()
    assert verify(folder) == 1
    assert "contains an unfinished run of `wds-bone make-shards`" in capsys.readouterr().out


@pytest.mark.fault("D4")
def test_shards_without_a_manifest_are_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_shard(tmp_path / "a-000000.tar", range(3))
    write_shard(tmp_path / "a-000001.tar", range(3, 5))
    assert verify(tmp_path) == 0
    write_shard(tmp_path / "a-000001.tar", range(2, 5), size=8)
    assert verify(tmp_path / "a-{000000..000001}.tar") == 1
    text = capsys.readouterr().out
    assert "the images have 2 different sizes" in text
    assert "sample 'hand-2' is in a-000000.tar and in a-000001.tar" in text


@pytest.mark.parametrize("path", ["nowhere", "nowhere/manifest.json", "nowhere-{0..3}.tar", "*.tar", "."])
def test_a_path_without_shards_is_a_usage_error(tmp_path: Path, path: str, capsys: pytest.CaptureFixture[str]):
    assert verify(tmp_path / path) == 2
    assert "error: " in capsys.readouterr().err


def test_missing_paths_and_unknown_options_are_usage_errors():
    for arguments in ([], ["--depth", "."]):
        assert main(arguments) == 2


@pytest.mark.parametrize("num_shards", [1, 2])
def test_a_shard_without_samples_is_reported(tmp_path: Path, num_shards: int, capsys: pytest.CaptureFixture[str]):
    folder = write_set(tmp_path / "set", train=[3] * num_shards)
    (folder / "train-000000.tar").write_bytes(bytes(1024))
    assert verify(folder, "--deep") == 1
    text = capsys.readouterr().out
    assert "train-000000.tar: does not match the manifest" in text
    assert ("the split 'train' has no samples" in text) == (num_shards == 1)


@pytest.mark.fault("C1")
@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that exists but cannot be read")
@pytest.mark.parametrize("suffix", [".index.npy", ".idx"])
def test_a_sidecar_that_cannot_be_read_is_reported(folder: Path, suffix: str, capsys: pytest.CaptureFixture[str]):
    (folder / f"val-000000{suffix}").unlink()
    (folder / f"val-000000{suffix}").symlink_to("/proc/self/mem")
    assert verify(folder) == 1
    text = capsys.readouterr().out
    assert f"val-000000{suffix}: cannot be read: Input/output error" in text
    assert "1 problem found in" in text


@pytest.mark.fault("C1")
@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that exists but cannot be read")
def test_a_shard_that_cannot_be_read_is_reported_once_and_the_others_are_checked(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    (folder / "train-000000.tar").unlink()
    (folder / "train-000000.tar").symlink_to("/proc/self/mem")
    (folder / "train-000001.tar").unlink()
    flip(folder / "val-000000.tar", 600)
    assert verify(folder) == 1
    text = capsys.readouterr().out
    assert text.count("train-000000.tar: cannot be read") == 1
    assert text.count("train-000001.tar: cannot be read") == 1
    assert "problem: " in text.partition("val-000000.tar")[0]
    assert "val-000000.tar" in text


@pytest.mark.fault("D2")
def test_a_damaged_shard_with_brackets_in_its_name_is_not_taken_for_another_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    write_shard(tmp_path / "train1.tar", range(3))
    write_shard(tmp_path / "train[1].tar", range(3))
    flip(tmp_path / "train[1].tar", 150)
    assert verify(tmp_path / "train1.tar") == 0
    assert verify(tmp_path / "train[1].tar") == 1
    assert "train[1].tar: not a wds_bone shard" in capsys.readouterr().out


def test_a_split_without_samples_is_reported_without_a_manifest_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_shard(tmp_path / "val-000000.tar", range(3))
    write_shard(tmp_path / "train-000000.tar", range(0))
    assert verify(tmp_path) == 1
    assert "the split 'train' has no samples" in capsys.readouterr().out
    write_shard(tmp_path / "train-000001.tar", range(3, 4))
    assert verify(tmp_path) == 0


@pytest.mark.fault("D4")
def test_members_that_are_neither_image_nor_label_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from tests.shards.tars import sample, tar_of

    extra = [("hand-1.txt", b"x"), ("hand-1.pth", b"\x80\x02"), ("hand-1.mask.png", b"x")]
    (tmp_path / "train-000000.tar").write_bytes(tar_of([*sample(), *extra]))
    assert verify(tmp_path, "--deep") == 0
    text = capsys.readouterr().out
    assert "ignored members that are neither image nor label: 1 .txt, 1 .pth, 1 .mask.png" in text


@pytest.mark.parametrize("name", ["", ".building"])
def test_a_set_whose_first_run_was_interrupted_is_reported_as_not_finished(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / ".building").mkdir()
    assert verify(tmp_path / name) == 1
    text = capsys.readouterr().out
    assert "not finished" in text
    assert "run the same `wds-bone make-shards` command again" in text
