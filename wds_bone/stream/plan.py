"""Cut the endless sequence of samples into batches; pure functions, no I/O.

In: a position and the geometry of the run.
Out: `BatchPlan`s.
Invariant: the batches of all ranks together are the global batches, which are the same for every world size, and every
rank gets the same number of batches of the same length.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from wds_bone.stream.order import Positions

BATCHES_AT_ONCE = 64


@dataclass(frozen=True, eq=False, slots=True)
class BatchPlan:
    """Which samples make up one rank's part of one global batch.

    Attributes:
        start: the global position of the first sample of the global batch.
        stop: the global position after the batch; the position of the stream once the batch is handed out.
        positions: int64 (rows,), global positions.
        samples: int64 (k,), the sample numbers of the first k rows; the other rows are padding.
    """

    start: int
    stop: int
    positions: Positions
    samples: Positions


@dataclass(frozen=True)
class BatchGeometry:
    """How positions become the batches of one rank.

    Attributes:
        num_samples: n, the number of samples in an epoch.
        batch_size: B, samples per global batch.
        rank, world_size: rank r of W gets rows [r B / W, (r + 1) B / W) of each global batch.
        sample_at: maps positions to sample numbers.
    """

    num_samples: int
    batch_size: int
    rank: int
    world_size: int
    sample_at: Callable[[Positions], Positions]

    @property
    def rows(self) -> int:
        """The number of rows that this rank gets of each global batch."""
        return self.batch_size // self.world_size

    def endless(self, start: int) -> Iterator[BatchPlan]:
        """Yield plans from position `start` on, without end; no batch is short or padded."""
        batches_at_once = min(BATCHES_AT_ONCE, -(-self.num_samples // self.batch_size))  # at most an epoch
        while True:
            stop = start + batches_at_once * self.batch_size
            yield from self._plans(start, stop)
            start = stop

    def epoch(self, start: int) -> Iterator[BatchPlan]:
        """Yield plans from position `start` to the end of its epoch; the last batch is filled with padding."""
        end = (start // self.num_samples + 1) * self.num_samples
        while start < end:
            stop = min(start + BATCHES_AT_ONCE * self.batch_size, end)
            yield from self._plans(start, stop)
            start = stop

    def samples_of_step(self, step: int) -> Positions:
        """Return the sample numbers of the global batch of a step (from 0) of the endless sequence."""
        start = step * self.batch_size
        return self.sample_at(np.arange(start, start + self.batch_size))

    def plan(self, start: int, stop: int) -> BatchPlan:
        """Return this rank's rows of the global batch that takes the samples of [start, stop)."""
        (plan,) = self._plans(start, stop)
        return plan

    def _plans(self, start: int, stop: int) -> Iterator[BatchPlan]:
        """Yield the plans of [start, stop); computes the order once, at the same cost for one batch as for many."""
        starts = np.arange(start, stop, self.batch_size)
        positions = starts[:, None] + self.rank * self.rows + np.arange(self.rows)
        samples = self.sample_at(np.minimum(positions, stop - 1))
        for first, indices, numbers in zip(starts.tolist(), positions, samples, strict=True):
            yield BatchPlan(first, min(first + self.batch_size, stop), indices, numbers[indices < stop])
