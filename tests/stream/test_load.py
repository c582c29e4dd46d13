from hypothesis import given
from hypothesis import strategies as st

from wds_bone.stream.load import LEAST_AHEAD, SAMPLES_PER_TASK, batches_ahead


@given(threads=st.integers(1, 128), rows=st.integers(1, 1024))
def test_enough_batches_are_under_way_for_all_threads_and_no_more(threads: int, rows: int) -> None:
    tasks_per_batch = len(range(0, rows, SAMPLES_PER_TASK))
    ahead = batches_ahead(threads, rows=rows)
    assert ahead * tasks_per_batch >= threads
    assert ahead == LEAST_AHEAD or (ahead - 1) * tasks_per_batch < threads
