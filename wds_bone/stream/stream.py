"""Deliver batches from shards, in an order that is a function of (shards, seed, epoch, position).

In: shards.
Out: `Batch`es on the device.
Invariant: the state is one integer, the number of samples handed out. Prefetched samples do not count, so a state that
is saved after any batch continues with the next one.
"""

import os
import weakref
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import IterableDataset, get_worker_info

from wds_bone.errors import ConfigError
from wds_bone.objects.protocol import Transfer
from wds_bone.remote.opening import CacheSettings, buffer_bytes, open_storage
from wds_bone.shards.manifest import ImageFormat
from wds_bone.shards.samples import SampleTable
from wds_bone.storage.machine import check_memory
from wds_bone.stream.batch import Batch
from wds_bone.stream.device import Planned, find_device
from wds_bone.stream.load import BATCHES_AHEAD, Loader
from wds_bone.stream.lookup import look_up
from wds_bone.stream.memory import PixelMemory
from wds_bone.stream.order import MAX_POSITION, Order
from wds_bone.stream.pipeline import Delivery, batch_pipeline
from wds_bone.stream.plan import BatchGeometry
from wds_bone.stream.reader import SampleReader
from wds_bone.stream.selection import Keep, select_shards
from wds_bone.stream.settings import StreamSettings, available_cores, whole_number


class BoneAgeStream(IterableDataset[Batch]):
    """Batches of (image, gender, age) from tar shards, shuffled, verified and decoded in threads.

    A `for` loop gives one epoch: the rest of one whose state was just loaded; otherwise, after a loop that did not hand
    out the last batch of its epoch, that epoch from its first batch, and after one that did, the next epoch.
    `endless()` continues at the position, from epoch to epoch. `stream[i]` is batch i of the current epoch and moves
    nothing, which is the way to look at a batch where one is a whole epoch. A stream runs one loop at a time: starting
    a loop, `set_epoch` and `load_state_dict` end the one before.

    The stream is its own loader; a DataLoader around it must not batch (`batch_size=None`) or have workers. A stream
    cannot be used in a DataLoader worker or after a fork. Iterate in one thread only; `stream[i]` is thread-safe.

    Args:
        shards: a tar, a folder, a `manifest.json`, a brace pattern, a glob, or a list. A path that exists means itself,
            whatever characters are in its name, and a `Path` object is never a pattern.
        batch_size: samples per global batch, over all ranks.
        seed: the seed of the shuffle, any whole number.
        split: the split of a folder or manifest.
        shuffle: False keeps the order of the shards, in every epoch.
        shuffle_buffer: a sample moves by fewer positions than this; None shuffles the whole epoch, which needs no more
            memory.
        shuffle_windows: for shards that are too large for every cache: in each epoch the shards are shuffled, and then
            the samples of every so many shards, one group after another; None shuffles the whole epoch.
        rank: which slice of each global batch this stream yields.
        world_size: number of slices; must divide `batch_size`.
        threads: number of decoding threads; None takes one per core.
        device: where batches go; to CUDA they are copied one batch ahead.
        keep: maps the table of all samples to a mask, bool (n,), of those in the stream; None keeps all. The table also
            has the field `group`, int64, if the patients of any shard are known.
        cache: the folder in which shards in object storage are kept, which the processes of a host share; None takes
            `wds_bone` in the user's folder for caches, and "none" fetches the images each time that they are read.
        cache_bytes: the bound of all shards in that folder; None takes half of the free space of its disk.

    Attributes:
        position: number of samples handed out so far, over all ranks and epochs.
        world_size: as given.

    Raises:
        ConfigError: if settings are out of range, contradict each other, or ask for what this machine does not have.
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
        shuffle_windows: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        threads: int | None = None,
        device: str | torch.device = "cpu",
        keep: Keep | None = None,
        cache: str | Path | None = None,
        cache_bytes: int | None = None,
    ) -> None:
        settings = StreamSettings(
            batch_size=batch_size,
            seed=seed,
            shuffle=shuffle,
            shuffle_buffer=shuffle_buffer,
            shuffle_windows=shuffle_windows,
            rank=rank,
            world_size=world_size,
            threads=threads,
            cache_bytes=cache_bytes,
        )
        self._device, self._threads = find_device(device), settings.threads or available_cores()
        kept = CacheSettings(cache, settings.cache_bytes)
        self._selection = select_shards(shards, split=split, keep=keep, cache=kept)
        self._order = Order(
            self.order_digest,
            self._selection.first_sample,
            settings.seed if shuffle else None,
            shuffle_buffer=settings.shuffle_buffer,
            shuffle_windows=settings.shuffle_windows,
        )
        self._geometry = BatchGeometry(
            self.num_samples, settings.batch_size, settings.rank, settings.world_size, self._order.sample_at
        )
        batch_bytes = self._geometry.rows * self.image_format.height * self.image_format.width
        check_memory(
            batch_bytes=batch_bytes,
            num_batches=min(len(self), BATCHES_AHEAD + 2),  # those ahead, the one that is due, and the one in use
            buffer_bytes=self._threads * int(self._selection.table["size"].max())
            + buffer_bytes(self._selection.stored),
        )
        self.position, self.world_size = 0, settings.world_size
        self._storage = open_storage(
            self._selection.stored,
            kept,
            next_use=partial(_next_use, weakref.ref(self)),
            batch_bytes=int(self._geometry.rows * self._selection.table["size"].mean()),
        )
        reader = SampleReader(self._selection, self._storage)
        self._loader = Loader(reader, PixelMemory(batch_bytes), pin_memory=self._device.type == "cuda")
        self._process, self._closed = os.getpid(), False
        self._continues = False  # whether a state was loaded after the last loop
        self._num_moves = 0  # loops started and positions set; a loop fails once the stream has moved
        self._delivery = Delivery(self._selection, is_deferred=self._device.type != "cpu")

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
        index = whole_number("batch", index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"batch {index} of an epoch of {len(self)} batches")
        first, end = self._epoch_of(self.position)
        start = first + index % len(self) * self._geometry.batch_size
        stop = min(start + self._geometry.batch_size, end)
        (request,) = look_up([self._geometry.plan(start, stop)], self._selection)
        return self._loader.batch(request).to(self._device)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of an epoch, or the rest of one whose state was just loaded; padding has weight 0."""
        return self._hand_out(is_endless=False)

    def endless(self) -> Iterator[Batch]:
        """Yield full batches from the current position on, epoch after epoch, without end."""
        return self._hand_out(is_endless=True)

    def keys(self) -> list[str]:
        """Return the keys of all samples, in the order of the shards."""
        return self._selection.keys()

    def step_keys(self, step: int) -> list[str]:
        """Return the keys of global batch `step` (from 0) of `endless()`, over all ranks."""
        return self._selection.keys(self._geometry.samples_of_step(step))

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of `epoch`; the first one is 0."""
        position = whole_number("epoch", epoch) * self.num_samples
        if not 0 <= position < MAX_POSITION:
            raise ConfigError(f"epoch {epoch} is out of range", expected="0 or more", got=epoch, do="count from 0")
        self._move_to(position)

    def state_dict(self) -> dict[str, Any]:
        """Return the position and what the order depends on, in plain JSON types."""
        self._delivery.check_copied()  # no state is saved after an epoch with wrong weights
        return self._order.state_at(self.position)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next loop continue where `state` was saved; batch size, ranks, threads and device may differ.

        Raises:
            CheckpointError: if the state belongs to other shards, or to another order.
        """
        self._move_to(self._order.position_of(state))
        self._continues = True

    def transfer(self) -> Transfer:
        """Return what this stream has moved over the network so far; zeros for local shards."""
        return self._selection.transfer + self._storage.counters()

    def close(self) -> None:
        """Stop the threads and close the files; a loop that continues raises an error.

        Raises:
            RuntimeError: if the last loop handed out wrong weights that no batch after them reported; this is a bug.
        """
        self._stop()
        self._delivery.finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        if error is None:  # a failed device cannot report its count
            self._delivery.finish()

    def __reduce__(self) -> NoReturn:
        raise _process_error()

    def _stop(self) -> None:
        self._closed = True
        self._loader.stop()
        self._storage.close()

    def _hand_out(self, *, is_endless: bool) -> Iterator[Batch]:
        """Yield batches; the position advances before each one is yielded.

        There is no `try` around the `yield`: in a generator that is dropped, it would swallow Ctrl-C.
        """
        position = self._start_loop(is_endless=is_endless)
        num_moves, end = self._num_moves, None if is_endless else self._epoch_of(position)[1]
        plan = partial(self._geometry.endless if is_endless else self._geometry.epoch, position)
        pipeline = iter(batch_pipeline(plan, self._selection, self._loader, threads=self._threads, device=self._device))
        while position != end:
            self._check_not_moved(num_moves)
            planned, batch = self._delivery.check(self._next(pipeline), position=position)
            self.position = position = planned.stop
            yield batch
        if num_moves == self._num_moves and not self._closed:
            self._delivery.finish()
            if self._next(pipeline) is not None:
                raise RuntimeError(f"the pipeline continued after the end of the epoch at position {end}")

    def _start_loop(self, *, is_endless: bool) -> int:
        """Go to the position where a new loop begins, and return it."""
        self._check_usable()
        starts_here = is_endless or self._continues
        self._move_to(self.position if starts_here else self._epoch_of(self.position)[0])
        return self.position

    def _next(self, pipeline: Iterator[Planned]) -> Planned | None:
        """Return what the pipeline delivers next; if it fails, or Ctrl-C arrives, no thread is left."""
        try:
            return next(pipeline, None)
        except BaseException:
            self._loader.stop()
            raise

    def _epoch_of(self, position: int) -> tuple[int, int]:
        """Return the first position of an epoch and that of the next."""
        start = position // self.num_samples * self.num_samples
        return start, start + self.num_samples

    def _move_to(self, position: int) -> None:
        self._delivery.finish()
        self._num_moves += 1
        self._continues = False
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


def _next_use(stream: "weakref.ref[BoneAgeStream]") -> NDArray[np.int64]:
    """Return in how many samples each shard is needed next; the storage must not keep its stream alive."""
    found = stream()
    if found is None:
        return np.empty(0, np.int64)
    return found._order.next_use(found.position) - found.position


def _process_error() -> ConfigError:
    return ConfigError(
        "a BoneAgeStream cannot be used in a DataLoader worker or after a fork: each process would read every sample",
        do="use the stream itself as the loader (it decodes in threads), or a DataLoader with num_workers=0 and "
        "batch_size=None; outside a DataLoader, each process can open a stream with its own rank and world_size",
    )
