"""Decide which sample is at each position of the endless sequence of epochs; pure functions, no I/O, no state.

In: positions, the number of samples of each shard, a key.
Out: sample numbers; the position from which each shard is needed next.
Invariant: the result depends only on (order digest, seed, epoch, shuffle buffer or windows), any position can be
computed without the ones before it, and each epoch is a permutation.

An epoch is cut into blocks, and each block is permuted (`permutation.py`), with keys that BLAKE2b derives from the
order digest, the seed and the epoch.

- By default, the whole epoch is one block, and the permutation is uniform.
- With a shuffle buffer, blocks are as long as the buffer, at an offset that changes from epoch to epoch so that the
  boundaries move. A sample therefore moves by fewer than `buffer` positions.
- With windows, the shards are permuted first. A block has the samples of K shards; those of the last one may be fewer.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wds_bone.errors import CheckpointError
from wds_bone.stream.permutation import NUM_ROUNDS, Numbers, permute

STATE_VERSION = 1
MAX_POSITION = 2**62
LOOK_AHEAD = 1 << 14
_BLOCK_STEP = np.uint64(0x9E3779B97F4A7C15)

Positions = Numbers
Words = NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class Order:
    """The order of the samples of a stream, defined by everything that it depends on.

    Attributes:
        order_digest: the digest of the selection.
        first_sample: int64 (shards + 1,), the number of the first sample of each shard, and n, their total.
        seed: the seed of the shuffle; None keeps the order of the shards, in every epoch.
        shuffle_buffer: a sample moves by fewer positions than this; None, which n or more become, shuffles the whole
            epoch.
        shuffle_windows: K, the number of shards whose samples are shuffled together; None, which the number of shards
            or more become, shuffles the whole epoch.
    """

    order_digest: str
    first_sample: Positions
    seed: int | None
    shuffle_buffer: int | None = None
    shuffle_windows: int | None = None

    def __post_init__(self) -> None:
        for name, total in (("shuffle_buffer", self.num_samples), ("shuffle_windows", self.num_shards)):
            if (getattr(self, name) or 0) >= total:
                object.__setattr__(self, name, None)

    @property
    def num_samples(self) -> int:
        """The number of samples in an epoch."""
        return int(self.first_sample[-1])

    @property
    def num_shards(self) -> int:
        """The number of shards, including those without samples."""
        return len(self.first_sample) - 1

    def sample_at(self, positions: Positions) -> Positions:
        """Return the number of the sample at each global position, int64 of the same shape.

        Position p is index p % n of epoch p // n.
        """
        epochs, indices = np.divmod(positions, self.num_samples)
        if self.seed is None:
            return indices
        samples = np.empty_like(indices)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            samples[here] = self._shuffle(indices[here], int(epoch))
        return samples

    def next_use(self, position: int) -> Positions:
        """Return the position from which each shard is needed next, int64 (shards,); a cache drops the largest first.

        Exact for the next `LOOK_AHEAD` positions; beyond them, the first position at which the order can have a sample
        of the shard. `MAX_POSITION` for a shard without samples.
        """
        stop = position + min(LOOK_AHEAD, 2 * self.num_samples)  # at least one whole epoch of a small set
        samples = self.sample_at(np.arange(position, stop))
        shards, first_seen = np.unique(shard_of(samples, self.first_sample), return_index=True)
        uses = np.full(self.num_shards, MAX_POSITION)
        for epoch in (stop // self.num_samples + 1, stop // self.num_samples):
            first, end = self._reach(epoch)
            uses = np.where(end > stop, np.maximum(first, stop), uses)
        uses[np.diff(self.first_sample) == 0] = MAX_POSITION
        uses[shards] = position + first_seen
        return uses

    def as_json(self) -> dict[str, Any]:
        """Return what the order depends on, in plain JSON types; equal for equal orders."""
        names = ("order_digest", "seed", "shuffle_buffer", "shuffle_windows")
        return {name: getattr(self, name) for name in names}

    def state_at(self, position: int) -> dict[str, Any]:
        """Return the state of a stream at `position`, in plain JSON types."""
        return {"version": STATE_VERSION, "position": position, **self.as_json()}

    def position_of(self, state: dict[str, Any]) -> int:
        """Return the position in a saved state.

        Raises:
            CheckpointError: if the state belongs to another order, or has no valid position.
        """
        state = {"shuffle_windows": None} | state  # states that were saved before there were windows lack it
        for name, here in self.state_at(0).items():
            if name != "position" and (name not in state or state[name] != here):
                raise _state_error(name, state.get(name), here)
        position = state.get("position")
        if type(position) is not int or not 0 <= position < MAX_POSITION:
            raise CheckpointError(
                "the state of the stream has no valid position",
                expected="a whole number, 0 or more",
                got=position,
                do="use another checkpoint, or start a new run",
            )
        return position

    def _shuffle(self, indices: Positions, epoch: int) -> Positions:
        """Return the number of the sample at each index of an epoch."""
        keys, length, buffer = self._keys(epoch), self.num_samples, self.shuffle_buffer
        if self.shuffle_windows is not None:
            return self._windows(self.shuffle_windows, keys).sample_at(indices, keys)
        if buffer is None:
            return permute(indices, length, keys.blocks[:, None])
        offset = int(keys.offset % np.uint64(buffer))
        block = (indices + offset) // buffer
        start = np.maximum(block * buffer - offset, 0)
        end = np.minimum((block + 1) * buffer - offset, length)
        return start + permute(indices - start, end - start, keys.of_blocks(block))

    def _reach(self, epoch: int) -> tuple[Positions, Positions]:
        """Return the first position at which each shard can have a sample in an epoch, and the end; int64 (shards,)."""
        if self.shuffle_windows is not None:
            first, end = self._windows(self.shuffle_windows, self._keys(epoch)).reach()
        else:
            moves = 0 if self.seed is None else (self.shuffle_buffer or self.num_samples) - 1
            first = np.maximum(self.first_sample[:-1] - moves, 0)
            end = np.minimum(self.first_sample[1:] + moves, self.num_samples)
        return epoch * self.num_samples + first, epoch * self.num_samples + end

    def _windows(self, shards_per_window: int, keys: "_Keys") -> "_Windows":
        shards = permute(np.arange(self.num_shards), self.num_shards, keys.shards[:, None])
        starts = np.concatenate([[0], np.cumsum(np.diff(self.first_sample)[shards])])
        bounds = np.append(starts[:-1:shards_per_window], self.num_samples)
        return _Windows(shards, self.first_sample[shards], starts, bounds, shards_per_window)

    def _keys(self, epoch: int) -> "_Keys":
        digest = hashlib.shake_256(self._key + epoch.to_bytes(8, "little")).digest(8 * (2 * NUM_ROUNDS + 1))
        words = np.frombuffer(digest, dtype="<u8").astype(np.uint64)
        return _Keys(words[:NUM_ROUNDS], words[NUM_ROUNDS], words[NUM_ROUNDS + 1 :])

    @cached_property
    def _key(self) -> bytes:
        return hashlib.blake2b(f"{self.order_digest} {self.seed}".encode(), digest_size=32).digest()


def _state_error(name: str, saved: object, here: object) -> CheckpointError:
    return CheckpointError(
        f"the state does not belong to this stream: {name} differs",
        expected=f"{saved} (saved)",
        got=f"{here} (now)",
        do="resume with the same shards and shuffle settings, or start a new run",
    )


def shard_of(samples: Positions, first_sample: Positions) -> Positions:
    """Return the number of the shard of each sample, given `Order.first_sample`."""
    return np.searchsorted(first_sample, samples, side="right") - 1


class _Keys(NamedTuple):
    """The random words of an epoch: the keys of its blocks, the offset of the blocks, and the keys of its shards."""

    blocks: Words
    offset: np.uint64
    shards: Words

    def of_blocks(self, block: Positions) -> Words:
        """Return the keys of the block of each index, uint64 (rounds, n)."""
        return self.blocks[:, None] + block.astype(np.uint64) * _BLOCK_STEP


class _Windows(NamedTuple):
    """The shards of an epoch in their order, and the windows that they make up.

    Attributes:
        shards: int64 (shards,), the number of each shard.
        first_sample: int64 (shards,), the number of its first sample.
        starts: int64 (shards + 1,), the index of its first sample before the windows are shuffled, and n.
        bounds: int64 (windows + 1,), the first index of each window, and n.
        shards_per_window: K.
    """

    shards: Positions
    first_sample: Positions
    starts: Positions
    bounds: Positions
    shards_per_window: int

    def sample_at(self, indices: Positions, keys: _Keys) -> Positions:
        """Return the number of the sample at each index of the epoch."""
        window = shard_of(indices, self.bounds)
        start, end = self.bounds[window], self.bounds[window + 1]
        source = start + permute(indices - start, end - start, keys.of_blocks(window))
        place = shard_of(source, self.starts)
        return self.first_sample[place] + source - self.starts[place]

    def reach(self) -> tuple[Positions, Positions]:
        """Return the first index and the end of the window of each shard, by the number of the shard."""
        window = np.arange(len(self.shards)) // self.shards_per_window
        by_number = np.argsort(self.shards)
        return self.bounds[window][by_number], self.bounds[window + 1][by_number]
