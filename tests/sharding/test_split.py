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


patient_lists = st.lists(st.lists(st.tuples(st.sampled_from("FM"), ages), min_size=1, max_size=5), max_size=40)


def labels_of(patient_films) -> tuple[list[Label], dict[str, str]]:
    """Return the labels of all films, and the patient of each key."""
    labels, patients = [], {}
    for patient, films in enumerate(patient_films):
        for gender, age in films:
            patients[f"hand-{len(labels)}"] = f"p{patient}"
            labels.append(Label(f"hand-{len(labels)}", gender, age))
    return labels, patients


@given(patient_lists, fractions, seeds)
def test_no_patient_is_on_both_sides_and_the_share_is_exact_to_within_one_patient(patient_films, fraction, seed):
    labels, patients = labels_of(patient_films)
    train, val = split_labels(labels, fraction, seed=seed, patients=patients)
    assert Counter(train + val) == Counter(labels)
    assert not {patients[label.key] for label in train} & {patients[label.key] for label in val}
    assert abs(len(val) - len(labels) * fraction) <= max(map(len, patient_films), default=0) / 2 + 0.5


@given(patient_lists, fractions, seeds)
def test_patients_of_every_gender_and_age_band_are_held_out_in_proportion(patient_films, fraction, seed):
    labels, patients = labels_of([films[:1] * len(films) for films in patient_films])  # all films in one stratum
    _, val = split_labels(labels, fraction, seed=seed, patients=patients)
    held_out, totals = Counter(map(stratum, val)), Counter(map(stratum, labels))
    for band, count in totals.items():
        assert abs(held_out[band] - count * fraction) <= max(map(len, patient_films))


@given(patient_lists, fractions, seeds, st.randoms(use_true_random=False))
def test_neither_the_order_of_the_table_nor_the_ids_of_patients_change_the_split(patient_films, fraction, seed, random):
    labels, patients = labels_of(patient_films)
    renamed = {key: f"someone else {patient[::-1]}" for key, patient in patients.items()}
    split = split_labels(labels, fraction, seed=seed, patients=patients)
    again = split_labels(random.sample(labels, len(labels)), fraction, seed=seed, patients=renamed)
    assert [set(part) for part in split] == [set(part) for part in again]


@given(label_lists, fractions, seeds)
def test_patients_with_one_film_each_are_split_like_samples_without_patients(labels, fraction, seed):
    patients = {label.key: f"patient of {label.key}" for label in labels}
    assert split_labels(labels, fraction, seed=seed, patients=patients) == split_labels(labels, fraction, seed=seed)


def test_the_split_without_patients_is_that_of_all_versions():
    labels = [Label(f"hand-{number}", "FM"[number % 2], 5 * number) for number in range(40)]
    _, val = split_labels(labels, 0.2, seed=0)
    assert [label.key for label in val] == GOLDEN


GOLDEN = [f"hand-{number}" for number in (4, 12, 26, 34, 7, 15, 25, 35)]
