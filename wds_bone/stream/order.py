"""Decide which sample is at each position of the endless sequence of epochs; pure functions, no I/O, no state.

In: positions, the number of samples, a key.
Out: sample numbers.
Invariant: the result depends only on (order digest, seed, epoch, shuffle buffer), any position can be computed without
the ones before it, and each epoch is a permutation.

An epoch is cut into blocks as long as the shuffle buffer, with an offset that changes from epoch to epoch so that the
boundaries move. Each block is permuted by a keyed Feistel network with cycle walking (Black and Rogaway, "Ciphers with
arbitrary finite domains", 2002). A sample therefore moves by fewer than `buffer` positions, and with a buffer as
large as the epoch the permutation is uniform. The round function is the 64-bit finalizer of MurmurHash3, keyed per
epoch by BLAKE2b, so nothing here changes with the version of NumPy.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wds_bone.errors import CheckpointError

STATE_VERSION = 1
MAX_POSITION = 2**62
NUM_ROUNDS = 8
MIN_HALF_BITS = 3  # with 2, permutations of fewer than 7 samples are measurably not uniform
_MIX_1, _MIX_2, _SHIFT = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53), np.uint64(33)
_BLOCK_STEP = np.uint64(0x9E3779B97F4A7C15)

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Order:
    """The order of the samples of a stream, defined by everything that it depends on.

    Attributes:
        order_digest: the digest of the selection.
        num_samples: n, the number of samples in an epoch.
        seed: the seed of the shuffle; None keeps the order of the shards, in every epoch.
        shuffle_buffer: a sample moves by fewer positions than this; None shuffles the whole epoch.
    """

    order_digest: str
    num_samples: int
    seed: int | None
    shuffle_buffer: int | None

    def sample_at(self, positions: Positions) -> Positions:
        """Return the number of the sample at each global position, int64 of the same shape."""
        return sample_at(positions, self.num_samples, key=self._key, buffer=self.shuffle_buffer)

    def as_json(self) -> dict[str, Any]:
        """Return what the order depends on, in plain JSON types; equal for equal orders."""
        buffer = self.shuffle_buffer
        is_limited = buffer is not None and buffer < self.num_samples
        return {
            "order_digest": self.order_digest,
            "seed": self.seed,
            "shuffle_buffer": buffer if is_limited else None,
        }

    def state_at(self, position: int) -> dict[str, Any]:
        """Return the state of a stream at `position`, in plain JSON types."""
        return {"version": STATE_VERSION, "position": position, **self.as_json()}

    def position_of(self, state: dict[str, Any]) -> int:
        """Return the position in a saved state.

        Raises:
            CheckpointError: if the state belongs to another order, or has no valid position.
        """
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

    @cached_property
    def _key(self) -> bytes | None:
        return None if self.seed is None else order_key(self.order_digest, self.seed)


def _state_error(name: str, saved: object, here: object) -> CheckpointError:
    return CheckpointError(
        f"the state does not belong to this stream: {name} differs",
        expected=f"{saved} (saved)",
        got=f"{here} (now)",
        do="resume with the same shards and shuffle settings, or start a new run",
    )


def sample_at(positions: Positions, num_samples: int, *, key: bytes | None, buffer: int | None = None) -> Positions:
    """Return the number (0 .. num_samples - 1) of the sample at each global position.

    Args:
        positions: int64, any shape; position p is index p % num_samples of epoch p // num_samples.
        num_samples: n, the number of samples in an epoch.
        key: what `order_key` returns; None keeps the order of the shards.
        buffer: a sample moves by fewer positions than this; None, or n or more, permutes the whole epoch.
    """
    epochs, indices = np.divmod(positions, num_samples)
    if key is None:
        return indices
    samples = np.empty_like(indices)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        samples[here] = _shuffle_indices(indices[here], num_samples, buffer=buffer, words=_epoch_words(key, int(epoch)))
    return samples


def order_key(order_digest: str, seed: int) -> bytes:
    """Return the key of an order: a hash of the order digest and the seed."""
    return hashlib.blake2b(f"{order_digest} {seed}".encode(), digest_size=32).digest()


def _epoch_words(key: bytes, epoch: int) -> NDArray[np.uint64]:
    """Return one key per round, and a last word for the offset of the blocks."""
    digest = hashlib.shake_256(key + epoch.to_bytes(8, "little")).digest(8 * (NUM_ROUNDS + 1))
    return np.frombuffer(digest, dtype="<u8").astype(np.uint64)


def _shuffle_indices(
    indices: Positions, num_samples: int, *, buffer: int | None, words: NDArray[np.uint64]
) -> Positions:
    if buffer is None or buffer >= num_samples:
        block, start, length = np.zeros_like(indices), np.zeros_like(indices), np.full_like(indices, num_samples)
    else:
        offset = int(words[-1] % np.uint64(buffer))
        block = (indices + offset) // buffer
        start = np.maximum(block * buffer - offset, 0)
        length = np.minimum((block + 1) * buffer - offset, num_samples) - start
    keys = words[:-1, None] + block.astype(np.uint64) * _BLOCK_STEP
    return start + _permute(indices - start, length, keys)


def _permute(indices: Positions, length: Positions, keys: NDArray[np.uint64]) -> Positions:
    """Apply a keyed permutation of 0 .. length - 1 to each element of `indices`."""
    half_bits = np.maximum((_bit_length(length - 1) + 1) // 2, MIN_HALF_BITS).astype(np.uint64)
    values = _feistel(indices.astype(np.uint64), half_bits, keys)
    limit = length.astype(np.uint64)
    while (outside := np.flatnonzero(values >= limit)).size:
        values[outside] = _feistel(values[outside], half_bits[outside], keys[:, outside])
    return values.astype(np.int64)


def _feistel(values: NDArray[np.uint64], half_bits: NDArray[np.uint64], keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    mask = (np.uint64(1) << half_bits) - np.uint64(1)
    left, right = values >> half_bits, values & mask
    for round_keys in keys:
        left, right = right, left ^ (_mix(right + round_keys) & mask)
    return (left << half_bits) | right


def _mix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    words = (words ^ (words >> _SHIFT)) * _MIX_1
    words = (words ^ (words >> _SHIFT)) * _MIX_2
    return words ^ (words >> _SHIFT)


def _bit_length(numbers: Positions) -> Positions:
    return np.frexp(numbers.astype(np.float64))[1].astype(np.int64)
