"""Read, verify and decode the samples of planned batches in threads, straight into the batch.

In: `BatchPlan`s. Out: `Batch`es in the same order. Invariant: every image is checked against its crc32 before a decoder
sees it; the number of threads changes nothing but the speed; leaving the generator leaves no thread behind that is not
stuck in the operating system.
"""

import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from threading import Event, get_ident, local
from typing import NamedTuple

import numpy as np
import torch

from wds_bone.errors import ImageError, ShardError
from wds_bone.stream.batch import Batch
from wds_bone.stream.decode import Row, decode_into
from wds_bone.stream.memory import PixelMemory
from wds_bone.stream.plan import BatchPlan
from wds_bone.stream.pool import DaemonPool
from wds_bone.stream.selection import REBUILD, Selection
from wds_bone.stream.storage import LocalStorage

BATCHES_AHEAD = 2
SAMPLES_PER_TASK = 16
STALL_SECONDS = 120.0


class _Stored(NamedTuple):
    """Where the bytes of a sample lie, and what they should be."""

    shard: int
    sample: int
    offset: int
    size: int
    crc32: int
    encoding: bytes


@dataclass(frozen=True, eq=False)
class _Watch:
    """What the threads of one loop are at, and whether they shall stop."""

    reading: dict[int, _Stored] = field(default_factory=dict)  # by thread
    stopped: Event = field(default_factory=Event)


@dataclass(frozen=True, eq=False)
class Loader:
    """Loads planned batches of one selection.

    Attributes:
        selection: the shards and the table of their samples.
        storage: where their bytes are read.
        memory: where decoded batches lie on the CPU.
        pin_memory: allocate page-locked batches, which a GPU copies from while the CPU goes on.
    """

    selection: Selection
    storage: LocalStorage
    memory: PixelMemory
    pin_memory: bool = False
    _scratch: local = field(default_factory=local, init=False)  # each thread's buffer for the bytes of one sample

    def batches(self, plans: Iterable[BatchPlan], *, threads: int) -> Iterator[Batch]:
        """Yield the batches of `plans` in order, decoded by `threads` threads, `BATCHES_AHEAD` batches ahead.

        Raises:
            ShardError: a sample cannot be read or fails its checksum, or nothing comes for `STALL_SECONDS`; names shard
                and key.
            ImageError: a sample is not the image that the index promises.
        """
        watch, pool = _Watch(), DaemonPool(threads, name="wds_bone-decode")
        started: deque[tuple[Batch, list[Future[None]]]] = deque()
        try:
            for plan in plans:
                started.append(self._start(plan, pool, watch))
                if len(started) > BATCHES_AHEAD:
                    yield _finish(*started.popleft())
            while started:
                yield _finish(*started.popleft())
        except TimeoutError as error:
            raise self._stall_error(watch) from error
        finally:
            watch.stopped.set()
            pool.close()

    def batch(self, plan: BatchPlan) -> Batch:
        """Return one batch, decoded by the calling thread, which a read that hangs for ever keeps waiting."""
        batch, pixels, stored = self._allocate(plan)
        self._fill(pixels, stored, _Watch())
        return batch

    def key_of(self, sample: int) -> str:
        """Return the key of a sample by its number."""
        key: bytes = self.selection.table["key"][sample]
        return key.decode()

    def _start(self, plan: BatchPlan, pool: DaemonPool, watch: _Watch) -> tuple[Batch, list[Future[None]]]:
        batch, pixels, stored = self._allocate(plan)
        chunks = (slice(first, first + SAMPLES_PER_TASK) for first in range(0, len(stored), SAMPLES_PER_TASK))
        return batch, [pool.submit(self._fill, pixels[chunk], stored[chunk], watch) for chunk in chunks]

    def _allocate(self, plan: BatchPlan) -> tuple[Batch, Row, list[_Stored]]:
        """Return a batch with its labels, its pixels (rows, H, W) as a view, and what is to be decoded into them."""
        rows, num_real, image = len(plan.positions), len(plan.samples), self.selection.image
        pixels = self._empty_pixels((rows, 1, image.height, image.width))
        pixels[num_real:] = 0
        labels = self.selection.table[plan.samples]
        shards = np.searchsorted(self.selection.first_sample, plan.samples, side="right") - 1
        columns = shards, plan.samples, *(labels[name] for name in ("offset", "size", "crc32", "encoding"))
        batch = Batch(
            image=pixels,
            gender=self._padded(labels["gender"] == b"M", rows),
            age_months=self._padded(labels["age_months"], rows),
            weight=self._padded(np.ones(num_real), rows),
            position=self._on_host(torch.from_numpy(plan.positions)),
            key=[key.decode() for key in labels["key"].tolist()] + [""] * (rows - num_real),
        )
        stored = [_Stored(*values) for values in zip(*(column.tolist() for column in columns), strict=True)]
        return batch, pixels.numpy()[:, 0], stored

    def _empty_pixels(self, shape: tuple[int, ...]) -> torch.Tensor:
        if self.pin_memory:
            return torch.empty(shape, dtype=torch.uint8, pin_memory=True)
        return self.memory.take(shape)

    def _on_host(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.pin_memory() if self.pin_memory else tensor

    def _padded(self, values: np.ndarray, rows: int) -> torch.Tensor:
        padded = torch.zeros(rows, pin_memory=self.pin_memory)
        padded[: len(values)] = torch.from_numpy(values.astype(np.float32))
        return padded

    def _fill(self, pixels: Row, stored: list[_Stored], watch: _Watch) -> None:
        thread, scratch = get_ident(), self._thread_scratch()
        fit = self.selection.image.fits_at_reading
        try:
            for row, sample in zip(pixels, stored, strict=False):
                if watch.stopped.is_set():
                    return
                watch.reading[thread] = sample
                contents = scratch[: sample.size]
                self.storage.read(sample.shard, sample.offset, contents)
                if zlib.crc32(contents) != sample.crc32:
                    raise self._checksum_error(sample, zlib.crc32(contents))
                try:
                    decode_into(contents, sample.encoding.decode(), row, fit=fit)
                except ValueError as error:
                    raise self._image_error(sample, error) from error
        finally:
            watch.reading.pop(thread, None)

    @cached_property
    def _largest_bytes(self) -> int:
        return int(self.selection.table["size"].max())

    def _thread_scratch(self) -> memoryview:
        """Return the calling thread's buffer: fresh memory for each sample would cost more than reading into it."""
        if not hasattr(self._scratch, "view"):
            self._scratch.view = memoryview(bytearray(self._largest_bytes))
        view: memoryview = self._scratch.view
        return view

    def _place(self, stored: _Stored) -> str:
        return f"{self.selection.paths[stored.shard]}: sample '{self.key_of(stored.sample)}'"

    def _checksum_error(self, stored: _Stored, got: int) -> ShardError:
        place = f"{self._place(stored)} fails its checksum"
        return ShardError(place, expected=f"crc32 {stored.crc32:08x}", got=f"crc32 {got:08x}", do=REBUILD)

    def _image_error(self, stored: _Stored, error: ValueError) -> ImageError:
        image = self.selection.image
        expected = f"a grey image of {image.height} x {image.width} pixels"
        return ImageError(f"{self._place(stored)} cannot be decoded", expected=expected, got=error, do=REBUILD)

    def _stall_error(self, watch: _Watch) -> ShardError:
        stuck = [self._place(reading) for reading in list(watch.reading.values())]
        place = stuck[0] if stuck else str(self.selection.paths[0].parent)
        waited = f"nothing for {STALL_SECONDS:g} seconds"
        return ShardError(
            f"{place}: reading has stalled", expected="its bytes", got=waited, do="check the disk or its mount"
        )


def _finish(batch: Batch, tasks: list[Future[None]]) -> Batch:
    for task in tasks:
        task.result(timeout=STALL_SECONDS)
    return batch
