import pytest
from hypothesis import given
from hypothesis import strategies as st

from wds_bone.learn.schedule import count_steps, default_ema, ema_decay, learning_rate


@given(num_samples=st.integers(1, 10**7), epochs=st.integers(1, 500), batch_size=st.integers(1, 4096))
def test_the_steps_just_suffice_to_show_every_sample(num_samples: int, epochs: int, batch_size: int):
    steps = count_steps(num_samples, epochs=epochs, batch_size=batch_size)
    assert steps * batch_size >= num_samples * epochs > (steps - 1) * batch_size


@given(num_steps=st.integers(1, 3000), peak=st.floats(1e-6, 1.0))
def test_the_rate_rises_once_then_falls_and_never_reaches_zero(num_steps: int, peak: float):
    rates = [learning_rate(step, num_steps=num_steps, peak=peak) for step in range(num_steps)]
    top = rates.index(max(rates))
    assert all(0 < rate <= peak for rate in rates)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_the_rate_is_highest_after_a_tenth_and_nearly_zero_at_the_end():
    assert learning_rate(100, num_steps=1000, peak=3e-3) == pytest.approx(3e-3)
    assert learning_rate(999, num_steps=1000, peak=3e-3) < 1e-7


@given(step=st.integers(0, 10**6))
def test_the_average_forgets_quickly_at_first_and_slowly_later(step: int):
    assert ema_decay(step, longest=0.99) <= min(0.99, ema_decay(step + 1, longest=0.99))
    assert ema_decay(step, longest=0.0) == 0.0


@given(num_steps=st.integers(1, 10**6))
def test_the_default_average_reaches_back_a_tenth_of_the_run(num_steps: int):
    decay = default_ema(num_steps)
    assert 0.0 <= decay < 1.0
    assert num_steps <= 10 or 1 / (1 - decay) == pytest.approx(num_steps / 10)
