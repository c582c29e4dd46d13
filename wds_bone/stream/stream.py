"""Deliver batches from shards, in an order that is a function of (shards, seed, epoch, position).

In: shards.
Out: `Batch`es on the device.
Invariant: the state is one integer, the number of samples handed out. Prefetched samples do not count, so a state that
is saved after any batch continues with the next one.
"""

import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import get_worker_info

from wds_bone.errors import CheckpointError, ConfigError
from wds_bone.shards.manifest import ImageFormat
from wds_bone.shards.samples import SampleTable
from wds_bone.storage.location import open_storage
from wds_bone.storage.machine import check_memory
from wds_bone.stream.batch import Batch
from wds_bone.stream.load import BATCHES_AHEAD, Loader
from wds_bone.stream.lookup import look_up
from wds_bone.stream.memory import PixelMemory
from wds_bone.stream.order import Order
from wds_bone.stream.pipeline import batch_pipeline
from wds_bone.stream.plan import BatchGeometry, BatchPlan
from wds_bone.stream.reader import SampleReader
from wds_bone.stream.selection import Keep, select_shards
from wds_bone.stream.settings import available_cores, check_settings

STATE_VERSION = 1


class BoneAgeStream:
    """Batches of (image, gender, age) from tar shards, shuffled, verified and decoded in threads.

    Iterating gives one epoch, or the rest of it if the position is inside one; `endless()` continues from epoch to
    epoch; `stream[i]` is batch i of the current epoch. A stream cannot be used in a DataLoader worker or after a fork.
    Iterate in one thread only; `stream[i]` is thread-safe.

    Args:
        shards: a brace pattern, a glob, a list, a folder or a `manifest.json`.
        batch_size: samples per global batch, over all ranks.
        seed: the seed of the shuffle.
        split: the split of a folder or manifest.
        shuffle: False keeps the order of the shards, in every epoch.
        shuffle_buffer: a sample moves by fewer positions than this; None shuffles the whole epoch, which needs no more
            memory.
        rank: which slice of each global batch this stream yields.
        world_size: number of slices; must divide `batch_size`.
        threads: number of decoding threads; None takes one per core.
        device: where batches go; to CUDA they are copied one batch ahead.
        keep: maps the table of all samples to a mask, bool (n,), of those in the stream; None keeps all.

    Attributes:
        position: number of samples handed out so far, over all ranks and epochs.
        world_size: as given.

    Raises:
        ConfigError: if settings contradict each other, or need more than the machine has.
        ShardError: if shards are missing or damaged.
    """

    def __init__(
        self,
        shards: str | Path | Sequence[str | Path],
        *,
        batch_size: int = 64,
        seed: int = 0,
        split: str | None = None,
        shuffle: bool = True,
        shuffle_buffer: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        threads: int | None = None,
        device: str | torch.device = "cpu",
        keep: Keep | None = None,
    ) -> None:
        check_settings(
            batch_size=batch_size,
            shuffle=shuffle,
            shuffle_buffer=shuffle_buffer,
            rank=rank,
            world_size=world_size,
            threads=threads,
        )
        self._selection = select_shards(shards, split=split, keep=keep)
        self._order = Order(self.order_digest, self.num_samples, seed if shuffle else None, shuffle_buffer)
        self._geometry = BatchGeometry(self.num_samples, batch_size, rank, world_size, self._order.sample_at)
        self._device, self._threads = torch.device(device), threads or available_cores()
        self._storage = open_storage(self._selection.paths)
        batch_bytes = batch_size // world_size * self.image_format.height * self.image_format.width
        check_memory(batch_bytes=batch_bytes, num_batches=min(len(self), BATCHES_AHEAD + 2))
        memory = PixelMemory(batch_bytes)
        reader = SampleReader(self._selection, self._storage)
        self._loader = Loader(reader, memory, pin_memory=self._device.type == "cuda")
        self.position, self.world_size = 0, world_size
        self._process, self._closed = os.getpid(), False
        self._num_moves = 0  # loops started and positions set; a loop fails once the stream has moved
        self._pipelines: weakref.WeakSet[Any] = weakref.WeakSet()

    @property
    def num_samples(self) -> int:
        """The number of samples in an epoch, over all ranks."""
        return self._selection.num_samples

    @property
    def num_shards(self) -> int:
        """The number of shards; every rank reads from all of them."""
        return len(self._selection.paths)

    @property
    def order_digest(self) -> str:
        """sha256 of the shards' names and contents, and of the samples that are kept."""
        return self._selection.order_digest

    @property
    def image_format(self) -> ImageFormat:
        """The format of the images."""
        return self._selection.image

    @property
    def table(self) -> SampleTable:
        """The rows of all samples, in the order of the shards: key, image bytes and label."""
        return self._selection.table

    @property
    def ages_months(self) -> NDArray[np.float32]:
        """float32 (num_samples,), in the order of the shards."""
        return self._selection.ages_months

    @property
    def genders(self) -> NDArray[np.uint8]:
        """uint8 (num_samples,), 1 male, 0 female, in the order of the shards."""
        return self._selection.genders

    def __len__(self) -> int:
        """Return the number of batches in a whole epoch."""
        return -(-self.num_samples // self._geometry.batch_size)

    def __getitem__(self, index: int) -> Batch:
        """Return batch `index` of the current epoch, decoded by the calling thread."""
        self._check_usable()
        if not -len(self) <= index < len(self):
            raise IndexError(f"batch {index} of an epoch of {len(self)} batches")
        epoch_start = self.position // self.num_samples * self.num_samples
        start = epoch_start + index % len(self) * self._geometry.batch_size
        stop = min(start + self._geometry.batch_size, epoch_start + self.num_samples)
        (request,) = look_up([self._geometry.plan(start, stop)], self._selection)
        return self._loader.batch(request).to(self._device)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches from the current position to the end of its epoch; padding has weight 0."""
        return self._hand_out(self._geometry.epoch, is_endless=False)

    def endless(self) -> Iterator[Batch]:
        """Yield full batches from the current position on, epoch after epoch, without end."""
        return self._hand_out(self._geometry.endless, is_endless=True)

    def keys(self) -> list[str]:
        """Return the keys of all samples, in the order of the shards."""
        return self._selection.keys()

    def step_keys(self, step: int) -> list[str]:
        """Return the keys of global batch `step` (from 0) of `endless()`, over all ranks."""
        return self._selection.keys(self._geometry.samples_of_step(step))

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of `epoch`; the first one is 0."""
        if epoch < 0:
            raise ConfigError(f"epoch {epoch} is out of range", expected="0 or more", got=epoch, do="count from 0")
        self._move_to(epoch * self.num_samples)

    def state_dict(self) -> dict[str, Any]:
        """Return the position and what the order depends on, in plain JSON types."""
        return {"version": STATE_VERSION, "position": self.position, **self._order.as_json()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state` was saved; batch size, ranks, threads and device may differ.

        Raises:
            CheckpointError: if the state belongs to other shards, or to another order.
        """
        expected = {"version": STATE_VERSION, **self._order.as_json()}
        for name, here in expected.items():
            if name not in state or state[name] != here:
                raise _state_error(name, state.get(name), here)
        if type(state.get("position")) is not int or state["position"] < 0:
            raise CheckpointError(
                "the state of the stream has no valid position",
                expected="a whole number, 0 or more",
                got=state.get("position"),
                do="use another checkpoint, or start a new run",
            )
        self._move_to(state["position"])

    def close(self) -> None:
        """Stop the threads and close the files; a loop that continues raises an error."""
        self._closed = True
        for pipeline in list(self._pipelines):
            pipeline.close()
        self._storage.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise _process_error()

    def _hand_out(self, plan_from: Callable[[int], Iterator[BatchPlan]], *, is_endless: bool) -> Iterator[Batch]:
        """Yield the batches that `plan_from(position)` plans; the position advances before each one is yielded."""
        self._check_usable()
        self._num_moves += 1
        num_moves, position = self._num_moves, self.position
        end = None if is_endless else (position // self.num_samples + 1) * self.num_samples
        plan = partial(plan_from, position)
        pipeline = iter(batch_pipeline(plan, self._selection, self._loader, threads=self._threads, device=self._device))
        self._pipelines.add(pipeline)
        try:
            while position != end:
                self._check_not_moved(num_moves)
                batch, position = self._check_delivery(next(pipeline, None))
                self.position = position
                yield batch
        finally:
            pipeline.close()

    def _check_delivery(self, delivered: tuple[BatchPlan, Batch] | None) -> tuple[Batch, int]:
        """Return the batch and the position after it; fail if the pipeline has lost, repeated or reordered a batch."""
        if delivered is None:
            raise RuntimeError(f"the pipeline ended at position {self.position}")
        plan, batch = delivered
        # The keys are on the host; reading a GPU tensor would wait for the device.
        first_key = self._selection.key_of(plan.samples[0]) if len(plan.samples) else ""
        expected = self.position, len(plan.samples), first_key
        got = plan.start, sum(map(bool, batch.key)), batch.key[0]
        if got != expected:
            raise RuntimeError(f"the pipeline delivered {got} (position, samples, first key), not {expected}")
        return batch, plan.stop

    def _move_to(self, position: int) -> None:
        self._num_moves += 1
        self.position = position

    def _check_not_moved(self, num_moves: int) -> None:
        self._check_usable()
        if num_moves != self._num_moves:
            raise ConfigError(
                "another loop, set_epoch or load_state_dict moved this stream during the loop",
                do="start a new loop, or open a second stream",
            )

    def _check_usable(self) -> None:
        if self._closed:
            raise ConfigError("the stream is closed", do="open a new BoneAgeStream")
        if os.getpid() != self._process or get_worker_info() is not None:
            raise _process_error()


def _state_error(name: str, saved: object, here: object) -> CheckpointError:
    return CheckpointError(
        f"the state does not belong to this stream: {name} differs",
        expected=f"{saved} (saved)",
        got=f"{here} (now)",
        do="resume with the same shards and shuffle settings, or start a new run",
    )


def _process_error() -> ConfigError:
    return ConfigError(
        "a BoneAgeStream cannot be used in a DataLoader worker or after a fork: each process would read every sample",
        do="use the stream itself as the loader (it decodes in threads); outside a DataLoader, each process can open a "
        "stream with its own rank and world_size",
    )
