"""Test the patient groups next to a shard: their bytes, their checks, and that older readers do not see them."""

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sample_sets import write_groups, write_set
from wds_bone.errors import ShardError
from wds_bone.shards.groups import check_groups, groups_as_bytes, join_groups, read_groups
from wds_bone.shards.manifest import MANIFEST_NAME, ShardEntry, groups_name, read_manifest

numbers = st.lists(st.integers(0, 2**32 - 1), max_size=40).map(lambda values: np.array(values, np.uint32))
NAME = "train-000000.tar"


def entry_of(folder: Path, groups: np.ndarray) -> ShardEntry:
    contents = groups_as_bytes(groups)
    (folder / groups_name(NAME)).write_bytes(contents)
    return ShardEntry(NAME, len(groups), 0, "", "", hashlib.sha256(contents).hexdigest())


def problems(folder: Path) -> list[str]:
    manifest = read_manifest(folder / MANIFEST_NAME)
    names = [shard.name for split in manifest.splits.values() for shard in split.shards]
    return [str(error) for error in check_groups(folder, manifest, names)]


def test_the_bytes_of_groups_never_change_between_versions():
    golden = "78b651de68e0f91ec60c138f528d5b7a3a62b02332cbb26f3bea09ebc05e106e"
    assert hashlib.sha256(groups_as_bytes(np.array([3, 0, 3], np.uint32))).hexdigest() == golden


@given(numbers)
def test_groups_survive_a_round_trip_and_numpy_reads_them(tmp_path_factory: pytest.TempPathFactory, groups: np.ndarray):
    folder = tmp_path_factory.mktemp("groups")
    assert read_groups(folder, entry_of(folder, groups)).tolist() == groups.tolist()
    plain = np.load(io.BytesIO(groups_as_bytes(groups)), allow_pickle=False)
    assert (plain.dtype, plain.tolist()) == (np.uint32, groups.tolist())


@pytest.mark.fault("D7")
@given(numbers.filter(len), st.data())
def test_every_flipped_bit_and_every_truncation_is_found(
    tmp_path_factory: pytest.TempPathFactory, groups: np.ndarray, data: st.DataObject
):
    folder = tmp_path_factory.mktemp("groups")
    entry = entry_of(folder, groups)
    contents = groups_as_bytes(groups)
    position = data.draw(st.integers(0, len(contents) - 1))
    flipped = bytes([*contents[:position], contents[position] ^ 1 << data.draw(st.integers(0, 7))])
    for damaged in (flipped + contents[position + 1 :], contents[:position]):
        (folder / groups_name(NAME)).write_bytes(damaged)
        with pytest.raises(ShardError, match=r"train-000000\.groups\.npy: is damaged"):
            read_groups(folder, entry)


@pytest.mark.fault("D7")
@pytest.mark.parametrize("wrong", [np.zeros(2, np.uint32), np.zeros(3, np.int64), np.zeros((3, 1), np.uint32)])
def test_other_arrays_are_refused_even_if_the_manifest_has_their_digest(tmp_path: Path, wrong: np.ndarray):
    np.save(tmp_path / groups_name(NAME), wrong)
    digest = hashlib.sha256((tmp_path / groups_name(NAME)).read_bytes()).hexdigest()
    with pytest.raises(ShardError, match="not the patient groups of its shard") as caught:
        read_groups(tmp_path, ShardEntry(NAME, 3, 0, "", "", digest))
    assert "3 numbers, uint32" in str(caught.value)


def test_missing_groups_are_an_error_with_their_path(tmp_path: Path):
    with pytest.raises(ShardError, match=r"train-000000\.groups\.npy: cannot be read: No such file"):
        read_groups(tmp_path, ShardEntry(NAME, 3, 0, "", "", "0" * 64))


def test_older_readers_see_the_entries_that_they_know_and_one_name_that_they_ignore(tmp_path: Path):
    folder = write_set(tmp_path / "set", train=[3], val=[2])
    before = json.loads((folder / MANIFEST_NAME).read_text())
    manifest = write_groups(folder, train=[[0, 1, 0]])
    after = json.loads((folder / MANIFEST_NAME).read_text())
    assert read_manifest(folder / MANIFEST_NAME) == manifest
    assert after.pop("groups") == {"train-000000.tar": manifest.splits["train"].shards[0].groups_sha256}
    assert after.pop("sha256") != before.pop("sha256")
    # Up to version 0.2.0, any other name in the entry of a shard or split is refused.
    assert after == before


@pytest.mark.fault("D7")
@pytest.mark.parametrize("groups", [{"other.tar": "0" * 64}, ["train-000000.tar"], 7])
def test_groups_of_unknown_shards_are_refused(tmp_path: Path, groups: object, monkeypatch: pytest.MonkeyPatch):
    from wds_bone.shards import manifest

    folder = write_set(tmp_path / "set", train=[3])
    contents = json.loads((folder / MANIFEST_NAME).read_text()) | {"groups": groups}
    contents.pop("sha256")
    sealed = manifest._canonical(contents | {"sha256": manifest._digest(contents)})
    (folder / MANIFEST_NAME).write_bytes(sealed)
    with pytest.raises(ShardError, match="not a complete manifest"):
        read_manifest(folder / MANIFEST_NAME)


def test_a_patient_in_two_splits_is_a_problem_but_not_in_two_shards(tmp_path: Path):
    folder = write_set(tmp_path / "set", train=[3, 2], val=[2], test=[1])
    write_groups(folder, train=[[0, 1, 0], [1, 2]], val=[[3, 3]], test=[[4]])
    assert problems(folder) == []
    write_groups(folder, val=[[1, 2]])
    (problem,) = problems(folder)
    assert "the splits 'train' and 'val' share patients" in problem
    assert "patients in both: 2" in problem


def test_groups_that_the_manifest_does_not_list_are_a_problem_with_a_remedy_that_works(tmp_path: Path):
    folder = write_set(tmp_path / "set", train=[3])
    path = folder / "train-000000.groups.npy"
    path.write_bytes(groups_as_bytes(np.zeros(3, np.uint32)))
    (problem,) = problems(folder)
    assert "train-000000.groups.npy: is not listed in the manifest" in problem
    assert "delete this file" in problem
    path.unlink()
    assert problems(folder) == []


def test_groups_of_different_folders_and_samples_without_groups_are_never_equal(tmp_path: Path):
    first, second = (tmp_path / name for name in ("first", "second"))
    for folder in (first, second):
        folder.mkdir()
    entries = [entry_of(folder, np.array([0, 1, 0], np.uint32)) for folder in (first, second)]
    ungrouped = replace(entries[0], groups_sha256=None)
    joined = join_groups([(first, entries[0], 3), (second, entries[1], 3), (first, ungrouped, 2), (second, None, 1)])
    assert joined[0] == joined[2]
    assert joined[3] == joined[5]
    assert len(set(joined.tolist())) == 2 + 2 + 2 + 1
