import pytest
from hypothesis import given
from hypothesis import strategies as st

from wds_bone.errors import ConfigError
from wds_bone.learn.assemble import refuse_indivisible


@given(batch_size=st.integers(1, 300), ranks=st.integers(1, 9), parts=st.integers(1, 5))
def test_a_batch_that_cannot_be_shared_out_names_the_nearest_that_can(batch_size: int, ranks: int, parts: int):
    unit = ranks * parts
    if batch_size % unit == 0:
        refuse_indivisible(batch_size, ranks=ranks, parts=parts)
        return
    with pytest.raises(ConfigError, match=f"--batch-size {batch_size}") as refused:
        refuse_indivisible(batch_size, ranks=ranks, parts=parts)
    named = [int(word) for word in refused.value.do.split() if word.isdigit()]
    assert named == [size for size in (batch_size // unit * unit, (batch_size // unit + 1) * unit) if size]
