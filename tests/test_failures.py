"""Test which errors of films and rows are printed, and which are counted."""

import pytest

from wds_bone.errors import ImageError
from wds_bone.failures import SHOWN_OF_A_KIND, Failures

Captured = pytest.CaptureFixture[str]


def test_every_error_is_printed_or_counted_by_its_kind_and_kept(capsys: Captured) -> None:
    failures = Failures()
    for number in range(SHOWN_OF_A_KIND + 1234):
        failures.add(ImageError(f"C:/ward/{number}.png: is empty", do="leave it out"))
    failures.add(ImageError("7.png: is truncated", do="copy it again"))
    failures.print_counts()
    failures.add(ImageError("8.png: is empty", do="leave it out"))
    failures.print_counts()
    errors = capsys.readouterr().err
    assert errors.count(": is empty\n  do:       leave it out\n") == SHOWN_OF_A_KIND
    assert errors.count("error: 7.png: is truncated\n  do:       copy it again\n") == 1
    assert errors.splitlines()[-2:] == [
        f"error: {count} more like the {SHOWN_OF_A_KIND} above: is empty" for count in ("1,234", "1")
    ]
    assert len(failures.errors) == SHOWN_OF_A_KIND + 1236
    assert failures.num_hidden == 1235


def test_a_kind_can_be_given(capsys: Captured) -> None:
    failures = Failures()
    for number in range(SHOWN_OF_A_KIND + 1):
        failures.add(ImageError(f"id {number}: several images ({number}.png)", do="rename one"), kind="several images")
    failures.print_counts()
    assert capsys.readouterr().err.endswith("error: 1 more like the 10 above: several images\n")
