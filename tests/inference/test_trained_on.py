"""Test the recognition of training samples by their keyed hashes."""

import numpy as np
import pytest
import torch

from wds_bone.inference.trained_on import (
    count_trained_on,
    describe_training_samples,
    find_trained_on,
    list_training_sets,
    trained_on_warning,
)

SALT, OTHER_SALT = "0a" * 32, "0b" * 32
KEYS, GENDERS, AGES = ["1001", "1002", "1003"], np.array([1, 0, 1], np.uint8), np.array([96, 120.5, 7], np.float32)


def describe(salt: str = SALT, **more: object) -> dict[str, object]:
    return {"trained_on": describe_training_samples(KEYS, GENDERS, AGES, salt=salt, **more)}


def test_every_training_sample_is_recognized_in_any_order_and_in_the_types_of_predictions():
    order = [2, 0, 1]
    keys, genders, ages = [KEYS[i] for i in order], GENDERS[order].astype(np.float32), AGES[order].astype(np.float64)
    assert find_trained_on(describe(), keys, genders, ages).tolist() == [True, True, True]


@pytest.mark.parametrize(
    ("key", "gender", "age"), [("1004", 1, 96), ("1001", 0, 96), ("1001", 1, 97), ("01001", 1, 96), ("100", 1, 196)]
)
def test_a_sample_with_another_key_gender_or_age_is_not_recognized(key: str, gender: int, age: float):
    sample = [key, "1002"], np.array([gender, 0]), np.array([age, 120.5])
    assert find_trained_on(describe(), *sample).tolist() == [False, True]


def test_an_age_from_a_table_in_years_is_recognized():
    in_years = np.round(AGES / 12, 2) * 12
    assert not np.array_equal(in_years, AGES)
    assert count_trained_on(describe(), KEYS, GENDERS, in_years) == 3


def test_the_entry_has_no_keys_and_depends_on_nothing_but_the_samples_and_the_salt():
    entry, again = describe()["trained_on"], describe_training_samples(KEYS[::-1], GENDERS[::-1], AGES[::-1], salt=SALT)
    assert entry.keys() == {"salt", "hashes", "inherited"}
    assert entry["hashes"].dtype == torch.int64
    assert torch.equal(entry["hashes"], again["hashes"])
    assert set(entry["hashes"].tolist()).isdisjoint(describe(OTHER_SALT)["trained_on"]["hashes"].tolist())


def test_the_hash_of_a_sample_is_the_same_in_every_version():
    """Otherwise a newer version would not recognize the training samples of an older checkpoint."""
    assert describe_training_samples(KEYS[:1], GENDERS[:1], AGES[:1], salt=SALT)["hashes"].tolist() == [
        1667602330904727387
    ]


def test_what_the_initial_weights_were_trained_on_is_recognized_too():
    first = describe(OTHER_SALT)["trained_on"]
    samples = ["2001"], np.array([0.0]), np.array([50.0])
    second = describe_training_samples(*samples, salt=SALT, inherited=list_training_sets(first))
    contents = {"trained_on": second}
    assert count_trained_on(contents, [*KEYS, "2001"], np.append(GENDERS, 0), np.append(AGES, 50)) == 4
    assert len(list_training_sets(second)) == 2
    third = describe_training_samples(*samples, salt=SALT, inherited=list_training_sets(second))
    assert [one["salt"] for one in list_training_sets(third)] == [SALT, OTHER_SALT]


def test_the_warning_counts_the_matches_and_does_not_call_them_proof():
    text = trained_on_warning(describe(), ["5", "1002", "1003"], np.array([1, 0, 1]), AGES, where="runs/a/best.pt")
    assert text is not None
    assert text.startswith("warning: 2 of the 3 samples (the first is '1002') have the key, gender and age of a train")
    assert "of runs/a/best.pt; if they are the same films" in text
    assert trained_on_warning(describe(), ["5"], np.array([1]), np.array([96.0])) is None


def test_what_initial_weights_of_an_older_format_were_trained_on_stays_unknown():
    contents = describe(inherited=list_training_sets(None))
    assert count_trained_on(contents, KEYS, GENDERS, AGES) == 3
    assert count_trained_on(contents, ["5"], np.array([1]), np.array([96.0])) is None
    again = describe_training_samples(
        ["7"], GENDERS[:1], AGES[:1], salt=OTHER_SALT, inherited=list_training_sets(contents["trained_on"])
    )
    assert count_trained_on({"trained_on": again}, ["5"], np.array([1]), np.array([96.0])) is None


def test_a_checkpoint_that_does_not_record_its_training_samples_is_not_taken_for_one_without_matches():
    contents = {"trained_on": None}
    assert count_trained_on(contents, KEYS, GENDERS, AGES) is None
    assert "does not record all of its training samples" in trained_on_warning(contents, KEYS, GENDERS, AGES)
