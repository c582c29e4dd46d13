"""Test `parse_id` and `parse_key`: keys are the ids, or made from them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wds_bone.errors import LabelError
from wds_bone.labels.keys import KEY_PATTERN, parse_id, parse_key


@pytest.mark.fault("A6")
@given(identity=st.text(max_size=100) | st.from_regex(KEY_PATTERN))
def test_an_id_is_its_own_key_or_refused(identity: str):
    if KEY_PATTERN.match(identity):
        assert parse_key(identity, where="row 7") == identity
    else:
        with pytest.raises(LabelError, match=r"row 7: the id is not a valid key(?s:.*)--safe-keys"):
            parse_key(identity, where="row 7")


@pytest.mark.fault("A6")
@given(ids=st.sets(st.text(st.characters(categories=["L", "N", "P", "Zs"]), min_size=1, max_size=100), max_size=20))
def test_safe_keys_are_valid_deterministic_and_unique(ids: set[str]):
    usable = {identity for identity in ids if identity.isprintable() and identity[0] not in "=+-@"}
    keys = {parse_key(identity, where="", safe=True) for identity in usable}
    assert len(keys) == len(usable)
    assert all(KEY_PATTERN.match(key) for key in keys)


def test_the_safe_key_of_an_id_does_not_change():
    # Golden values: keys are in shards, so a change would separate the samples of a set from those of another run.
    assert parse_key("hand-7", where="", safe=True) == "hand-7"
    assert parse_key("p 1/hand.7", where="", safe=True) == "p_1_hand_7-bb4557641ec5"
    assert parse_key("x" * 65, where="", safe=True).startswith("x" * 51 + "-")


@pytest.mark.fault("A6")
@pytest.mark.parametrize("identity", ["", "=1+1", "+a b", "-a b", "@x.y", "a\tb", "a\nb", "\x1b[2J"])
def test_no_key_is_made_from_an_id_that_is_not_plain_text(identity: str):
    with pytest.raises(LabelError, match="no key can be made from the id"):
        parse_key(identity, where="row 7", safe=True)


@pytest.mark.parametrize(
    ("text", "width", "identity"),
    [
        (" 1377.png ", None, "1377"),
        ("1377.0", None, "1377"),
        ("001", None, "001"),
        ("1.2.840.DCM", None, "1.2.840"),
        ("x.IMA", None, "x"),
        ("1", 5, "00001"),
        ("1.0", 5, "00001"),
        ("000001", 5, "00001"),
        ("0", 1, "0"),
        ("123456", 5, "123456"),
        ("hand-1", 5, "hand-1"),
        ("１", 5, "１"),
    ],
)
def test_ids_are_read_as_films_are_named(text: str, width: int | None, identity: str):
    assert parse_id(text, width=width) == identity
