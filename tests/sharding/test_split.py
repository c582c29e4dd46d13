from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from wds_bone.labels.read import Label
from wds_bone.sharding.split import divide_evenly, shuffle_labels, split_labels
from wds_bone.shards.statistics import AGE_BAND_MONTHS

ages = st.integers(0, 240)
label_lists = st.lists(st.tuples(st.sampled_from("FM"), ages), max_size=120).map(
    lambda rows: [Label(f"hand-{number}", gender, age) for number, (gender, age) in enumerate(rows)]
)
fractions = st.floats(0, 0.9)
seeds = st.integers(0, 3)


def stratum(label: Label) -> tuple[str, float]:
    return label.gender, label.age_months // AGE_BAND_MONTHS


@given(label_lists, fractions, seeds)
def test_train_and_val_hold_every_label_once_in_the_requested_shares(labels, fraction, seed):
    train, val = split_labels(labels, fraction, seed=seed)
    assert Counter(train + val) == Counter(labels)
    assert len(val) == int(len(labels) * fraction + 0.5)


@given(label_lists, fractions, seeds)
def test_every_gender_and_age_band_is_held_out_in_proportion(labels, fraction, seed):
    _, val = split_labels(labels, fraction, seed=seed)
    held_out, totals = Counter(map(stratum, val)), Counter(map(stratum, labels))
    for band, count in totals.items():
        assert abs(held_out[band] - count * fraction) <= 1


@given(label_lists, fractions, seeds, st.randoms(use_true_random=False))
def test_the_order_of_the_table_changes_nothing(labels, fraction, seed, random):
    reordered = random.sample(labels, len(labels))
    by_key = [sorted(part, key=lambda label: label.key) for part in split_labels(labels, fraction, seed=seed)]
    again = [sorted(part, key=lambda label: label.key) for part in split_labels(reordered, fraction, seed=seed)]
    assert by_key == again
    assert shuffle_labels(labels, seed=seed) == shuffle_labels(reordered, seed=seed)


def test_another_seed_holds_out_different_samples():
    labels = [Label(f"hand-{number}", "F", 100) for number in range(100)]
    assert split_labels(labels, 0.2, seed=0)[1] != split_labels(labels, 0.2, seed=1)[1]


def test_shuffled_labels_are_not_sorted_by_age_within_any_quarter():
    labels = [Label(f"hand-{age:03d}", "F", age) for age in range(200)]
    shuffled = shuffle_labels(labels, seed=0)
    for quarter in divide_evenly(shuffled, 50):
        mean = sum(label.age_months for label in quarter) / len(quarter)
        assert 80 < mean < 120


def test_the_order_of_writing_is_the_same_on_every_machine_and_version():
    # A set that is continued after an upgrade must keep its order: change this list only with the format version.
    order = [label.key for label in shuffle_labels([Label(str(number), "M", 9) for number in range(8)], seed=0)]
    assert order == list("13645702")


@given(st.lists(st.integers(), min_size=1, max_size=60), st.integers(1, 20))
def test_chunks_differ_by_at_most_one_and_hold_all_samples_in_order(samples, size):
    chunks = divide_evenly(samples, size)
    assert [sample for chunk in chunks for sample in chunk] == samples
    assert all(0 < len(chunk) <= size for chunk in chunks)
    assert len({len(chunk) for chunk in chunks}) <= 2
