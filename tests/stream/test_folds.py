from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sample_sets import write_groups, write_set
from wds_bone.errors import ConfigError, ShardError
from wds_bone.shards.samples import add_field
from wds_bone.stream.folds import fold_numbers, keep_fold
from wds_bone.stream.selection import select_shards
from wds_bone.stream.stream import BoneAgeStream


def table_of(num_samples: int, seed: int) -> np.ndarray:
    draws = np.random.Generator(np.random.PCG64(seed))
    table = np.zeros(num_samples, [("key", "S8"), ("gender", "S1"), ("age_months", "f4")])
    table["key"] = [f"k{number}" for number in draws.permutation(num_samples)]
    table["gender"], table["age_months"] = draws.choice([b"F", b"M"], num_samples), draws.integers(1, 20, num_samples)
    return table


@given(num_samples=st.integers(1, 120), num_folds=st.integers(2, 7), seed=st.integers(0, 99))
def test_folds_are_complete_equal_in_size_and_stratified(num_samples: int, num_folds: int, seed: int):
    table = table_of(num_samples, seed)
    folds = fold_numbers(table, num_folds=num_folds, seed=seed)
    sizes = np.bincount(folds, minlength=num_folds)
    assert len(folds) == num_samples
    assert len(sizes) == num_folds
    assert sizes.max() - sizes.min() <= 1
    genders = [np.bincount(folds[table["gender"] == gender], minlength=num_folds) for gender in (b"F", b"M")]
    assert all(counts.max() - counts.min() <= 2 for counts in genders)


@given(seed=st.integers(0, 99), shuffle=st.integers(0, 99))
def test_the_fold_of_a_sample_does_not_depend_on_the_order_of_the_samples(seed: int, shuffle: int):
    table = table_of(50, seed)
    order = np.random.Generator(np.random.PCG64(shuffle)).permutation(50)
    folds = fold_numbers(table, num_folds=5, seed=seed)
    assert fold_numbers(table[order], num_folds=5, seed=seed).tolist() == folds[order].tolist()


def test_another_seed_gives_other_folds_and_those_of_a_seed_never_change():
    table = table_of(30, seed=1)
    first, second = (fold_numbers(table, num_folds=3, seed=seed) for seed in (0, 1))
    assert first.tolist() != second.tolist()
    # All runs of a cross-validation must agree on the folds, so these may change only with the version of the package.
    assert first.tolist() == GOLDEN


def test_mean_ages_are_similar_in_all_folds():
    table = table_of(2000, seed=2)
    folds = fold_numbers(table, num_folds=5, seed=0)
    means = [table["age_months"][folds == fold].mean() for fold in range(5)]
    assert max(means) - min(means) < 0.2


@pytest.mark.parametrize("fold", range(3))
def test_the_two_streams_of_a_fold_share_no_sample_and_omit_none(fold: int, tiny_shards: Path):
    kept = {part: keep_fold(part, fold=fold, num_folds=3, seed=0) for part in ("train", "val")}
    with (
        BoneAgeStream(tiny_shards, split="train", batch_size=4, keep=kept["train"]) as train,
        BoneAgeStream(tiny_shards, split="train", batch_size=4, keep=kept["val"]) as val,
        BoneAgeStream(tiny_shards, split="train", batch_size=4) as whole,
    ):
        delivered = {stream: [key for batch in stream for key in batch.key if key] for stream in (train, val)}
        for batch in train:  # the gray value is the age, so each sample still has its own image
            real = batch.weight > 0
            assert batch.image[real, 0, 8, 8].tolist() == batch.age_months[real].tolist()
        assert sorted(delivered[train] + delivered[val]) == sorted(whole.keys())
        assert sorted(delivered[val]) == sorted(val.keys())
        assert len({train.order_digest, val.order_digest, whole.order_digest}) == 3
        assert train.num_shards == 3


def with_groups(table: np.ndarray, groups: np.ndarray) -> np.ndarray:
    return add_field(table, "group", groups)


grouped_tables = st.tuples(st.integers(1, 120), st.integers(1, 60), st.integers(0, 99)).map(
    lambda drawn: with_groups(
        table_of(drawn[0], drawn[2]), np.random.Generator(np.random.PCG64(drawn[2])).integers(0, drawn[1], drawn[0])
    )
)


@given(grouped_tables, st.integers(2, 7), st.integers(0, 99))
def test_all_films_of_a_patient_are_in_one_fold_and_folds_are_equal_to_within_one_patient(
    table: np.ndarray, num_folds: int, seed: int
):
    folds = fold_numbers(table, num_folds=num_folds, seed=seed)
    for group in set(table["group"].tolist()):
        assert len(set(folds[table["group"] == group].tolist())) == 1
    num_films = np.bincount(folds, minlength=num_folds)
    assert len(num_films) == num_folds
    assert num_films.max() - num_films.min() <= np.bincount(table["group"]).max()


@given(grouped_tables, st.integers(0, 99))
def test_the_folds_of_patients_depend_neither_on_their_numbers_nor_on_the_order_of_the_samples(
    table: np.ndarray, shuffle: int
):
    draws = np.random.Generator(np.random.PCG64(shuffle))
    order, numbers = draws.permutation(len(table)), draws.permutation(table["group"].max() + 1)
    shuffled = table[order]
    shuffled["group"] = numbers[shuffled["group"]] + 7
    folds = fold_numbers(table, num_folds=4, seed=shuffle)
    assert fold_numbers(shuffled, num_folds=4, seed=shuffle).tolist() == folds[order].tolist()


@given(num_samples=st.integers(1, 120), num_folds=st.integers(2, 7), seed=st.integers(0, 99))
def test_patients_with_one_film_each_have_the_folds_of_samples_without_patients(
    num_samples: int, num_folds: int, seed: int
):
    table = table_of(num_samples, seed)
    alone = with_groups(table, np.random.Generator(np.random.PCG64(seed)).permutation(num_samples))
    folds = fold_numbers(table, num_folds=num_folds, seed=seed)
    assert fold_numbers(alone, num_folds=num_folds, seed=seed).tolist() == folds.tolist()


def test_streams_of_two_sets_keep_the_patients_of_each_set_together(tmp_path: Path):
    first = write_set(tmp_path / "first", train=[12, 8])
    second = write_set(tmp_path / "second", first=50, train=[10])
    write_groups(first, train=[[number // 3 for number in range(12)], [number // 3 + 3 for number in range(8)]])
    tables: list[np.ndarray] = []

    def note(table: np.ndarray) -> np.ndarray:
        tables.append(table)
        return np.ones(len(table), bool)

    names = [str(folder / "train-*.tar") for folder in (first, second)]
    select_shards(names, keep=note)
    write_groups(second, train=[[0] * 10])
    select_shards(names, keep=note)
    for table, num_patients in zip(tables, (6 + 10, 6 + 1), strict=True):
        assert len(set(table["group"].tolist())) == num_patients
        assert len(set(table["group"][9:15].tolist())) == 1  # in two shards
        folds = fold_numbers(table, num_folds=3, seed=0)
        assert len(set(zip(table["group"].tolist(), folds.tolist(), strict=True))) == num_patients


@pytest.mark.fault("D7")
def test_damaged_groups_are_refused_when_folds_are_asked_for_and_without_folds_they_are_not_read(tmp_path: Path):
    folder = write_set(tmp_path / "set", train=[9])
    plain = select_shards(folder).order_digest
    write_groups(folder, train=[[0, 0, 0, 1, 1, 1, 2, 2, 2]])
    (folder / "train-000000.groups.npy").write_bytes(b"damaged")
    assert select_shards(folder).order_digest == plain
    with pytest.raises(ShardError, match=r"train-000000\.groups\.npy: is damaged"):
        select_shards(folder, keep=keep_fold("val", fold=0, num_folds=3, seed=0))


def test_a_stream_without_samples_is_refused(tiny_shards: Path):
    with pytest.raises(ConfigError, match="no sample is selected"):
        BoneAgeStream(tiny_shards, split="val", keep=lambda table: np.zeros(len(table), bool))


GOLDEN = [0, 0, 2, 2, 2, 1, 2, 1, 0, 1, 0, 2, 0, 1, 1, 2, 1, 0, 1, 2, 2, 0, 2, 1, 0, 1, 1, 0, 2, 0]
