"""Test `wds-bone index` on shards from other tools and from `wds-bone make-shards`."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import webdataset

from tests.sample_sets import write_shard
from tests.sharding.film_sets import digests, make, write_films
from wds_bone.index import main
from wds_bone.shards.foreign import split_name
from wds_bone.shards.manifest import MANIFEST_NAME, read_manifest
from wds_bone.verify import main as verify


def index(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def write_foreign(folder: Path, *, num_samples: int = 7, size: tuple[int, int] = (9, 7), grows: bool = False) -> None:
    """Write shards with plain webdataset: in a different tar format, with different names, and with times."""
    folder.mkdir(exist_ok=True)
    with webdataset.ShardWriter(str(folder / "bones-%06d.tar"), maxcount=4, verbose=0) as writer:
        for number in range(num_samples):
            shape = (size[0] + number, size[1]) if grows else size
            label = {"male": number % 2 == 1, "boneage": 10 * number}
            writer.write({"__key__": f"{number}", "png": np.full(shape, number, np.uint8), "json": label})


def test_foreign_shards_become_a_set_that_verifies(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_foreign(tmp_path / "set")
    assert index(tmp_path / "set") == 0
    assert "bones: 7 samples in 2 shards" in capsys.readouterr().out
    manifest = read_manifest(tmp_path / "set" / MANIFEST_NAME)
    assert (manifest.image.encoding, manifest.image.height, manifest.image.width) == ("png", 9, 7)
    assert manifest.image.fit is None
    assert verify([str(tmp_path / "set"), "--deep"]) == 0


def test_shards_from_make_shards_get_the_same_sidecars_and_manifest_entries_again(tmp_path: Path):
    out = tmp_path / "out"
    make(out, *write_films(tmp_path / "films", 20))
    made, before = read_manifest(out / MANIFEST_NAME), digests(out)
    for path in [*out.glob("*.index.npy"), *out.glob("*.idx"), out / MANIFEST_NAME]:
        path.unlink()
    assert index(out) == 0
    found = read_manifest(out / MANIFEST_NAME)
    bare = {name: replace(split, plan=None, label_table_sha256=None) for name, split in made.splits.items()}
    assert found.splits == bare
    after = digests(out)
    assert before.pop(MANIFEST_NAME) != after.pop(MANIFEST_NAME)
    assert after == before


def test_a_set_from_make_shards_keeps_its_manifest_and_its_sidecars_are_restored(tmp_path: Path):
    out = tmp_path / "out"
    make(out, *write_films(tmp_path / "films", 20))
    before = digests(out)
    (out / "train-000000.index.npy").unlink()
    (out / "train-000001.idx").write_text("nonsense")
    assert index(out) == 0
    assert digests(out) == before


def test_the_manifest_from_make_shards_is_not_replaced_if_the_shards_differ(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "out"
    make(out, *write_films(tmp_path / "films", 20))
    write_shard(out / "train-000001.tar", range(100, 103))
    before = digests(out)
    assert index(out) == 2
    assert "was written by `wds-bone make-shards` and does not match these shards" in capsys.readouterr().err
    assert index(out / "train-000000.tar") == 2
    assert "lists shards that would not be indexed" in capsys.readouterr().err
    assert digests(out) == before


def test_the_manifest_of_foreign_shards_is_replaced_if_the_shards_change(tmp_path: Path):
    write_foreign(tmp_path / "set")
    assert index(tmp_path / "set") == 0
    write_foreign(tmp_path / "set", num_samples=8)
    assert verify([str(tmp_path / "set")]) == 1
    assert index(tmp_path / "set") == 0
    assert verify([str(tmp_path / "set")]) == 0


def test_letterbox_is_refused_for_a_set_of_make_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    make(out, *write_films(tmp_path / "films", 20))
    before = digests(out)
    assert index(out, "--letterbox", 32) == 2
    assert "--letterbox cannot change a set that `wds-bone make-shards` wrote" in capsys.readouterr().err
    assert digests(out) == before


def test_mixed_sizes_are_refused_without_letterbox(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_foreign(tmp_path / "set", grows=True)
    assert index(tmp_path / "set") == 2
    message = capsys.readouterr().err
    assert "the images have 7 different sizes" in message
    assert "--letterbox PIXELS" in message
    assert not (tmp_path / "set" / MANIFEST_NAME).exists()
    assert index(tmp_path / "set", "--letterbox", 32) == 0
    image = read_manifest(tmp_path / "set" / MANIFEST_NAME).image
    assert (image.height, image.width, image.fit) == (32, 32, "letterbox at reading")
    assert verify([str(tmp_path / "set")]) == 0
    assert verify([str(tmp_path / "set"), "--deep"]) == 0


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-000012.tar", "train"),
        ("rsna-val-3.tar", "rsna-val"),
        ("train_12.tar", "train"),
        ("train.tar", "train"),
        ("000012.tar", "all"),
        ("a-b.tar", "a"),
    ],
)
def test_the_split_comes_from_the_name_of_the_shard(name: str, split: str):
    assert split_name(name) == split


def test_a_key_in_two_shards_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_shard(tmp_path / "train-000000.tar", range(3))
    write_shard(tmp_path / "val-000000.tar", range(2, 4))
    assert index(tmp_path) == 2
    assert "sample 'hand-2' is in train-000000.tar and in val-000000.tar" in capsys.readouterr().err
    assert not (tmp_path / MANIFEST_NAME).exists()


def test_a_damaged_shard_is_refused_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_shard(tmp_path / "train-000000.tar", range(3))
    write_shard(tmp_path / "train-000001.tar", range(3, 5))
    with (tmp_path / "train-000001.tar").open("r+b") as shard:
        shard.truncate(900)
    assert index(tmp_path) == 2
    assert "train-000001.tar: not a wds_bone shard: mismatch at byte" in capsys.readouterr().err
    assert len(list(tmp_path.iterdir())) == 2


def test_usage_errors_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_foreign(tmp_path / "a")
    write_foreign(tmp_path / "b")
    for arguments in (
        [tmp_path / "nowhere"],
        [tmp_path],
        [tmp_path / "a", tmp_path / "b"],
        [tmp_path / "a", "--letterbox", 2],
    ):
        assert index(*arguments) == 2
        assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize(("age", "status"), [("boneage", 2), ("age", 2), ("age_months", 0), ("age_years", 0)])
def test_ages_in_years_are_refused_unless_their_name_states_the_unit(
    tmp_path: Path, age: str, status: int, capsys: pytest.CaptureFixture[str]
):
    with webdataset.ShardWriter(str(tmp_path / "bones-%06d.tar"), maxcount=6, verbose=0) as writer:
        for number in range(12):
            label = {"male": number % 2 == 1, age: 5 + number}
            writer.write({"__key__": f"{number}", "png": np.zeros((8, 8), np.uint8), "json": label})
    assert index(tmp_path) == status
    assert ("the ages look like years" in capsys.readouterr().err) == (status == 2)
    assert (tmp_path / MANIFEST_NAME).exists() == (status == 0)


def test_shards_without_samples_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "train-000000.tar").write_bytes(bytes(1024))
    assert index(tmp_path) == 2
    assert "the split 'train' has no samples" in capsys.readouterr().err
