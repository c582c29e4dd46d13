"""The stream: shards become batches on the device, in an order that is a function of (shards, seed, epoch, position).

In: shards. Out: `Batch`es. Invariant: the state is one integer, the number of samples handed out; what is prefetched
does not count, so a state saved after any batch continues with the next one.
"""

import os
import weakref
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import tee
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import numpy as np
import torch
from torch.utils.data import get_worker_info
from webdataset import DataPipeline

from wds_bone.errors import CheckpointError, ConfigError, ShardError
from wds_bone.shards.manifest import ImageFormat
from wds_bone.storage.local import LocalStorage
from wds_bone.stream.batch import Batch
from wds_bone.stream.device import copy_ahead
from wds_bone.stream.load import Loader
from wds_bone.stream.memory import PixelMemory
from wds_bone.stream.order import order_key, sample_at
from wds_bone.stream.plan import BatchGeometry, BatchPlan
from wds_bone.stream.selection import Keep, narrow, select_shards
from wds_bone.stream.settings import available_cores, check_settings

STATE_VERSION = 1


class BoneAgeStream:
    """Batches of (image, gender, age) from tar shards, shuffled, verified and decoded in threads.

    Iterating gives one epoch, or the rest of it when the state stands inside one; `endless()` gives epochs without a
    seam; `stream[i]` is batch i of the current epoch. Not for use inside a DataLoader's workers or after a fork;
    iteration is for one thread, `stream[i]` for any.

    Args:
        shards: a brace pattern, a glob, a list, a folder or a `manifest.json`.
        batch_size: samples per step over all ranks.
        seed: of the shuffle.
        split: which split of a folder or manifest.
        shuffle: False keeps the order of the shards, in every epoch.
        shuffle_buffer: a sample moves by fewer places than this; None shuffles the whole epoch, at no cost in memory.
        rank: which slice of each batch is handed out here.
        world_size: how many slices there are; must divide `batch_size`.
        threads: that decode; None takes the processor's cores.
        device: where batches go; for CUDA they are copied one ahead.
        keep: tells of the table of all samples which of them are in the stream; None keeps all.

    Attributes:
        num_samples: in an epoch, over all ranks.
        world_size: how many ranks share each batch.
        position: samples handed out so far, over all ranks and epochs.
        num_shards: that they come from; every rank reads from all of them.
        order_digest: sha256 of the shards' names and contents, and of what is kept of them.
        image_format: of the images.
        ages_months: float32 (num_samples,), in the order of the shards.
        genders: uint8 (num_samples,), 1 male, 0 female.

    Raises:
        ConfigError: settings that contradict each other.
        ShardError: shards that are missing or damaged.
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
        selection = select_shards(shards, split=split)
        if keep is not None:
            selection = narrow(selection, keep(selection.table))
        self.num_samples, self.order_digest = len(selection.table), selection.order_digest
        self.num_shards = len(selection.paths)
        self.image_format: ImageFormat = selection.image
        self.ages_months = selection.table["age_months"].copy()
        self.genders = (selection.table["gender"] == b"M").astype(np.uint8)
        self.world_size = world_size
        self.position = 0
        self._order: dict[str, Any] = {
            "order_digest": self.order_digest,
            "seed": seed if shuffle else None,
            "shuffle_buffer": None if (shuffle_buffer or self.num_samples) >= self.num_samples else shuffle_buffer,
        }
        key = order_key(self.order_digest, seed) if shuffle else None
        order = partial(sample_at, num_samples=self.num_samples, key=key, buffer=shuffle_buffer)
        self._geometry = BatchGeometry(self.num_samples, batch_size, rank, world_size, order)
        self._device = torch.device(device)
        self._storage = LocalStorage(selection.paths)
        memory = PixelMemory(batch_size // world_size * self.image_format.height * self.image_format.width)
        self._loader = Loader(selection, self._storage, memory, pin_memory=self._device.type == "cuda")
        self._threads = threads or available_cores()
        self._process = os.getpid()
        self._loop = 0
        self._pipelines: weakref.WeakSet[Any] = weakref.WeakSet()
        self._closed = False

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
        return self._loader.batch(self._geometry.plan(start, stop)).to(self._device)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches from the position to the end of its epoch, the last one padded with weight 0."""
        return self._hand_out(self._geometry.epoch)

    def endless(self) -> Iterator[Batch]:
        """Yield full batches from the position on, epoch after epoch, without an end."""
        return self._hand_out(self._geometry.endless)

    def keys(self) -> list[str]:
        """Return the keys of all samples, in the order of the shards."""
        return self._loader.keys()

    def step_keys(self, step: int) -> list[str]:
        """Return the keys of the global batch that `endless()` hands out as number `step` (from 0), over all ranks."""
        return self._loader.keys(self._geometry.samples_of_step(step))

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of `epoch` (0 is the first)."""
        if epoch < 0:
            raise ConfigError(f"epoch {epoch}", expected="0 or more", got=epoch, do="count epochs from 0")
        self._move_to(epoch * self.num_samples)

    def state_dict(self) -> dict[str, Any]:
        """Return the position, and what the order depends on, in plain JSON types."""
        return {"version": STATE_VERSION, "position": self.position, **self._order}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken; batch size, ranks, threads and device may have changed.

        Raises:
            CheckpointError: the state belongs to other shards, or to another order.
        """
        expected = {"version": STATE_VERSION, **self._order}
        for name, here in expected.items():
            if name not in state or state[name] != here:
                raise _state_error(name, state.get(name), here)
        if type(state.get("position")) is not int or state["position"] < 0:
            raise _state_error("position", state.get("position"), "a whole number")
        self._move_to(state["position"])

    def close(self) -> None:
        """Stop the threads and close the files; a loop that goes on gets an error."""
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

    def _hand_out(self, plans: Any) -> Iterator[Batch]:
        """Yield the loaded batches of `plans(position)`, and move the position along with them."""
        self._check_usable()
        self._loop += 1
        loop = self._loop
        ahead, handed_out = tee(plans(self.position))
        pipeline = iter(self._pipeline(ahead))
        self._pipelines.add(pipeline)
        try:
            for plan in handed_out:
                self._check_loop(loop)
                batch = self._check_delivery(next(pipeline, None), plan)
                self.position = plan.stop
                yield batch
        finally:
            pipeline.close()

    def _check_delivery(self, batch: Batch | None, plan: BatchPlan) -> Batch:
        """Refuse to go on when the pipeline lost, repeated or reordered a batch: nothing is dropped silently."""
        # Keys lie on the host; to look at a tensor on a GPU would wait for it.
        expected = len(plan.samples), self._loader.key_of(plan.samples[0]) if len(plan.samples) else ""
        got = None if batch is None else (sum(map(bool, batch.key)), batch.key[0])
        if batch is None or got != expected:
            where = f"batch at position {plan.positions[0]}"
            raise ShardError(f"{where} was not delivered", expected=expected, got=got, do="report this as a bug")
        return batch

    def _pipeline(self, plans: Iterator[BatchPlan]) -> DataPipeline:
        stages = [lambda: plans, partial(self._loader.batches, threads=self._threads)]
        if self._device.type == "cuda":
            stages.append(partial(copy_ahead, device=self._device))
        elif self._device.type != "cpu":
            stages.append(lambda batches: (batch.to(self._device) for batch in batches))
        return DataPipeline(*stages)

    def _move_to(self, position: int) -> None:
        self._loop += 1
        self.position = position

    def _check_loop(self, loop: int) -> None:
        self._check_usable()
        if loop != self._loop:
            raise ConfigError(
                "the stream has moved since this loop began", do="begin a new loop; a stream has one position"
            )

    def _check_usable(self) -> None:
        if self._closed:
            raise ConfigError("the stream is closed", do="open a new BoneAgeStream")
        if os.getpid() != self._process or get_worker_info() is not None:
            raise _process_error()


def _state_error(name: str, saved: object, here: object) -> CheckpointError:
    return CheckpointError(
        f"the stream's state does not fit: {name} differs",
        expected=f"{saved} (saved)",
        got=f"{here} (now)",
        do="resume with the same shards and shuffle settings, or start a new run",
    )


def _process_error() -> ConfigError:
    return ConfigError(
        "a BoneAgeStream cannot be used in a DataLoader worker or after a fork: each process would read every sample",
        do="use the stream itself as the loader (it decodes in threads), or give each process its rank and world_size",
    )
