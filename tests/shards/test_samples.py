import hashlib
import io
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wds_bone.errors import ShardError
from wds_bone.shards.samples import join_tables, make_table, table_as_bytes, table_from_bytes

rows = st.tuples(
    st.text("abcXYZ0123456789_-", min_size=1, max_size=64).map(str.encode),
    st.integers(0, 2**63),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.floats(0, 240, width=32),
    st.sampled_from([b"F", b"M"]),
    st.sampled_from([b"jpg", b"png", b"npy"]),
)
tables = st.lists(rows, max_size=20).map(make_table)


def test_the_bytes_of_a_table_never_change_between_versions():
    # Indexes of every version since 0.1.0 must be readable. This digest may change only together with FORMAT_VERSION.
    table = make_table([(b"hand-7", 512, 900, 7, 94.5, b"F", b"jpg")])
    golden = "d25d4ad09e486bd8a4d1ca60ab49aa16fdc8b642838cf2ba58116e044528b6b6"
    assert hashlib.sha256(table_as_bytes(table)).hexdigest() == golden


@given(tables)
def test_a_table_survives_a_round_trip(table):
    contents = table_as_bytes(table)
    again = table_from_bytes(contents, "shard")
    assert again.tolist() == table.tolist()
    assert table_as_bytes(again) == contents


@given(st.lists(tables, max_size=5))
def test_joined_tables_keep_all_rows_in_order(parts):
    assert join_tables(parts).tolist() == [row for part in parts for row in part.tolist()]


def test_a_row_of_rsna_data_takes_at_most_32_bytes():
    assert make_table([(b"15610", 0, 0, 0, 1.0, b"F", b"jpg")]).itemsize <= 32


@pytest.mark.fault("D7")
@given(tables, st.integers(0, 400))
def test_a_truncated_sidecar_is_refused(table, length):
    contents = table_as_bytes(table)
    if length < len(contents):
        with pytest.raises(ShardError, match="not a sample table"):
            table_from_bytes(contents[:length], "shard")


class Canary:
    def __reduce__(self):
        return pytest.fail, ("a pickle was executed",)


@pytest.mark.fault("I1", "D7")
@pytest.mark.parametrize(
    "array",
    [
        np.zeros(3),
        np.array([[1]]),
        np.array([Canary()], dtype=object),
        np.zeros(1, dtype=[("key", "S3")]),
        np.float32(1),
    ],
)
def test_other_arrays_are_refused_and_no_pickle_is_loaded(array):
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    with pytest.raises(ShardError, match="not a sample table"):
        table_from_bytes(buffer.getvalue(), "shard")
    with pytest.raises(ShardError):
        table_from_bytes(pickle.dumps(Canary()), "shard")
