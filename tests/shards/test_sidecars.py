from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wds_bone.shards.samples import make_table
from wds_bone.shards.sidecars import duplicate_keys

few_keys = st.text("ab1", min_size=1, max_size=3) | st.sampled_from(["x" * 8, "x" * 9, "x" * 17, "y" * 64])
key_lists = st.lists(st.lists(few_keys, max_size=6), max_size=4)


@pytest.mark.fault("D4")
@given(key_lists)
def test_every_repetition_of_a_key_is_reported(names: list[list[str]]):
    tables = {
        f"shard-{number}": make_table([(key.encode(), 0, 0, 0, 1.0, b"F", b"jpg") for key in keys])
        for number, keys in enumerate(names)
    }
    counts = Counter(key for keys in names for key in keys)
    repeated = Counter(key for key, _, _ in duplicate_keys(tables))
    assert repeated == Counter({key: count - 1 for key, count in counts.items() if count > 1})
    assert all(
        key in names[int(first[6:])] and key in names[int(second[6:])] for key, first, second in duplicate_keys(tables)
    )
