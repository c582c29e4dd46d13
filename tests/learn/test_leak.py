"""Test the warning about validation samples that are also training samples."""

from wds_bone.learn.leak import leak_text
from wds_bone.shards.samples import SampleTable, make_table


def table(*numbers: int, hospital: int = 0, crc_of: int = 0) -> SampleTable:
    """Return samples with keys that are the same in all hospitals, and ages and images that are not."""
    rows = [
        (str(number).encode(), 512, 900 + number, number + crc_of, 100.0 + number + 7 * hospital, b"F", b"png")
        for number in numbers
    ]
    return make_table(rows)


def test_disjoint_samples_and_equal_numbers_of_two_hospitals_cause_no_warning():
    assert leak_text(table(1, 2, 3), table(4, 5)) is None
    assert leak_text(table(1, 2, 3), table(1, 2, hospital=1, crc_of=50)) is None


def test_validation_samples_with_the_same_images_are_counted():
    text = leak_text(table(*range(100)), table(5, 98, 99, 100, 101))
    assert text is not None
    assert text.startswith("warning: 3 of the 5 validation samples (the first is '5') are also training samples")


def test_the_same_hands_in_another_encoding_are_counted():
    text = leak_text(table(1, 2, 3), table(3, 1234567890, crc_of=50))
    assert text is not None
    assert "1 of the 2 validation samples (the first is '3') have the key, gender and age" in text
