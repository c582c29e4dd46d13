"""Test the measurements of memory, training time and waiting time."""

import mmap

from wds_bone.distributed.resources import Clock, Stopwatch, resident_bytes


def test_resident_memory_grows_with_allocated_memory():
    before = resident_bytes()
    with mmap.mmap(-1, 1 << 26) as fresh:  # malloc might reuse pages that other tests have touched
        fresh.write(b"\1" * (1 << 26))
        assert resident_bytes() - before > 0.9 * (1 << 26)


def test_a_lap_measures_the_waits_and_restarts_the_stopwatch():
    stopwatch = Stopwatch()
    for _ in range(3):
        with stopwatch.waiting():
            sum(range(10_000))
    per_second, fraction = stopwatch.lap()
    assert per_second > 0
    assert 0 < fraction <= 1
    assert stopwatch.lap() == (0.0, 0.0)


def test_a_clock_counts_only_while_it_is_running():
    clock = Clock(5.0)
    assert clock.elapsed_seconds() == 5.0
    with clock.running():
        sum(range(10_000))
        assert clock.elapsed_seconds() > 5.0
    stopped = clock.elapsed_seconds()
    assert stopped > 5.0
    assert clock.elapsed_seconds() == stopped
