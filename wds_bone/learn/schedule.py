"""Step -> learning rate and EMA decay, as pure functions.

In comes the number of a step, out goes what that step uses. The invariant: nothing here depends on what happened
before, so a resumed run needs no state of its schedule.
"""

import math


def count_steps(num_samples: int, *, epochs: int, batch_size: int) -> int:
    """Return how many steps show every sample `epochs` times, the last batch running into the next epoch."""
    return -(-num_samples * epochs // batch_size)


def learning_rate(step: int, *, num_steps: int, peak: float, warmup: float = 0.1) -> float:
    """Rise linearly over the first part of the steps, then fall to zero along a cosine.

    Args:
        step: the first is 0.
        num_steps: of the whole run.
        peak: the highest rate.
        warmup: part of the steps that rise.
    """
    num_warmup = max(1, round(warmup * num_steps))
    if step < num_warmup:
        return peak * (step + 1) / (num_warmup + 1)
    progress = (step - num_warmup) / max(1, num_steps - num_warmup)
    return peak * 0.5 * (1.0 + math.cos(math.pi * progress))


def default_ema(num_steps: int) -> float:
    """Return the decay whose average reaches back over the last tenth of the steps."""
    return max(0.0, 1.0 - 10.0 / num_steps)


def ema_decay(step: int, *, longest: float) -> float:
    """Return how much of the average survives a step: little at first, `longest` later (TensorFlow's rule)."""
    return min(longest, (1 + step) / (10 + step))
