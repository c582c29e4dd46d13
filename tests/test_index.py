"""Test `wds-bone index` on shards from other tools and from `wds-bone make-shards`."""

import os
import shutil
import uuid
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sample_sets import write_shard
from tests.sharding.film_sets import digests, make, write_films
from tests.shards.tars import sample, tar_of
from wds_bone.errors import ConfigError, ShardError
from wds_bone.index import index_shards, main
from wds_bone.shards.foreign import split_name
from wds_bone.shards.manifest import MANIFEST_NAME, read_manifest
from wds_bone.stream.selection import select_shards
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


@pytest.mark.fault("B4", "D7")
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
        ("left_M.tar", "left_M"),
        ("train-b.tar", "train-b"),
        ("train-00000-of-00004.tar", "train"),
        ("rsna_train_00000_of_00004.tar", "rsna_train"),
        ("train-2024-000012.tar", "train-2024"),
        ("train.003.tar", "train"),
        ("train12.tar", "train"),
        ("rsna-val.tar", "rsna-val"),
        ("bones_tr.tar", "bones_tr"),
        ("hands (1).tar", "hands"),
        ("train[1].tar", "train"),
        ("part=0.tar", "part"),
        ("Röntgen-01.tar", "Röntgen"),
        ("training_3fa9c1b2.tar", "training"),
        ("0c1f7bb0a3d94b1e8a55.tar", "all"),
    ],
)
def test_the_split_comes_from_the_name_of_the_shard(name: str, split: str):
    assert split_name(name) == split


def test_random_names_are_one_split_whatever_is_in_them():
    random = Random(0)
    for _ in range(100_000):
        name = uuid.UUID(int=random.getrandbits(128), version=4)
        assert split_name(f"training_{name}.tar") == "training"


@given(st.uuids(version=4), st.sampled_from(["training_", "rsna-train-", "a b_", "Röntgen_", "train.1_", ""]))
def test_the_split_is_all_of_the_name_before_a_random_suffix(suffix: uuid.UUID, prefix: str):
    assert split_name(f"{prefix}{suffix}.tar") == split_name(f"{prefix}{suffix.hex}.tar") == (prefix[:-1] or "all")


shard_names = st.lists(
    st.text(
        st.sampled_from("aA1-_.=() []{}*~:\\%öß") | st.characters(codec="utf-8", exclude_characters="/\0"), max_size=12
    ),
    min_size=1,
    max_size=4,
    unique=True,
).map(lambda names: [f"{name}.tar" for name in names])


@settings(max_examples=40)
@given(shard_names)
def test_index_writes_a_manifest_that_can_be_read_or_nothing_at_all(tmp_path_factory, names: list[str]):
    folder = tmp_path_factory.mktemp("names")
    for number, name in enumerate(names):
        write_shard(folder / name, range(2 * number, 2 * number + 2), size=4)
    before = set(folder.iterdir())
    try:
        manifest = index_shards([str(folder)])
    except (ShardError, ConfigError) as error:
        assert error.do  # noqa: PT017
        assert set(folder.iterdir()) == before
    else:
        assert read_manifest(folder / MANIFEST_NAME) == manifest
        read = sum(select_shards(folder, split=split).num_samples for split in manifest.splits)
        assert read == 2 * sum(not name.startswith(".") for name in names)


@pytest.mark.parametrize("name", [".hidden.tar", "a\nb.tar", "x" * 245 + ".tar", "train.zip", os.fsdecode(b"\xff.tar")])
def test_a_name_that_no_manifest_may_list_is_refused_before_anything_is_written(tmp_path: Path, name: str, capsys):
    write_shard(tmp_path / "train-0.tar", range(3))
    write_shard(tmp_path / name, range(3, 5))
    assert index(tmp_path / "train-0.tar", tmp_path / name) == 2
    message = capsys.readouterr().err
    assert "a set cannot contain a shard named" in message
    assert "rename the file" in message
    assert len(list(tmp_path.iterdir())) == 2


def test_members_that_are_ignored_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    members = [*sample("hand-1"), ("hand-1.txt", b"x"), ("readme.md", b"x"), *sample("hand-2"), ("hand-2.txt", b"x")]
    (tmp_path / "train-0.tar").write_bytes(tar_of(members))
    assert index(tmp_path) == 0
    assert "ignored members that are neither image nor label: 2 .txt, 1 .md" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["", ".building"])
def test_an_unfinished_set_is_not_indexed(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]):
    (tmp_path / ".building").mkdir()
    write_shard(tmp_path / ".building" / "train-000000.tar", range(3))
    assert index(tmp_path / name) == 2
    message = capsys.readouterr().err
    assert "not finished" in message
    assert "run the same `wds-bone make-shards` command again" in message


@pytest.mark.fault("D4")
def test_a_key_in_two_shards_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_shard(tmp_path / "train-000000.tar", range(3))
    write_shard(tmp_path / "val-000000.tar", range(2, 4))
    assert index(tmp_path) == 2
    assert "sample 'hand-2' is in train-000000.tar and in val-000000.tar" in capsys.readouterr().err
    assert not (tmp_path / MANIFEST_NAME).exists()


@pytest.mark.fault("D1")
def test_a_damaged_shard_is_refused_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_shard(tmp_path / "train-000000.tar", range(3))
    write_shard(tmp_path / "train-000001.tar", range(3, 5))
    with (tmp_path / "train-000001.tar").open("r+b") as shard:
        shard.truncate(900)
    assert index(tmp_path) == 2
    assert "train-000001.tar: not a wds_bone shard: mismatch at byte" in capsys.readouterr().err
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.fault("C1")
def test_a_manifest_without_any_of_its_shards_is_refused(tiny_shards: Path, tmp_path: Path, capsys):
    shutil.copy(tiny_shards / MANIFEST_NAME, tmp_path)
    assert index(tmp_path) == 2
    assert "none of its shards" in capsys.readouterr().err


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


@pytest.mark.fault("E4")
def test_shards_without_samples_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "train-000000.tar").write_bytes(bytes(1024))
    assert index(tmp_path) == 2
    assert "the split 'train' has no samples" in capsys.readouterr().err
