import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from wds_bone.objects.url import parse_url
from wds_bone.remote.shard import RemoteShard

SIZES = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50)), min_size=1, max_size=20)


@given(sizes=SIZES, rest=st.integers(0, 100))
def test_segments_cover_every_byte_and_each_contains_one_image(sizes: list[tuple[int, int]], rest: int) -> None:
    ends = np.cumsum([gap + size for gap, size in sizes])
    shard = RemoteShard(parse_url("http://host/a.tar"), "0" * 64, int(ends[-1]) + rest, ends)
    position = 0
    for segment, (_, size) in enumerate(sizes):
        assert shard.start_of(segment) == position
        assert shard.segment_at(int(ends[segment]) - size) == segment
        position = shard.end_of(segment)
    assert position == shard.num_bytes
