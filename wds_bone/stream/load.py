"""Read, verify and decode the samples of planned batches in threads, straight into the batch.

In: `BatchPlan`s. Out: `Batch`es in the same order. Invariant: every image is checked against its crc32 before a decoder
sees it; the number of threads changes nothing but the speed; leaving the generator leaves no thread behind that is not
stuck in the operating system.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from dataclasses import dataclass, field
from functools import cached_property
from threading import Event, get_ident, local

import numpy as np
import torch
from numpy.typing import NDArray
from zlib_ng.zlib_ng import crc32

from wds_bone.errors import ImageError, ShardError
from wds_bone.storage.local import LocalStorage
from wds_bone.stream.batch import Batch
from wds_bone.stream.decode import NPY_HEADER_BYTES, Row, check_npy_header, decode_into
from wds_bone.stream.lookup import Request, Stored, look_up, shard_of
from wds_bone.stream.memory import PixelMemory
from wds_bone.stream.plan import BatchPlan
from wds_bone.stream.pool import DaemonPool
from wds_bone.stream.selection import REBUILD, Selection

BATCHES_AHEAD = 2
MAX_SAMPLES_PER_TASK = 16
STALL_SECONDS = 120.0


@dataclass(frozen=True, eq=False)
class _Watch:
    """What the threads of one loop are at, and whether they shall stop."""

    reading: dict[int, int] = field(default_factory=dict)  # numbers of samples, by thread
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
            for request in self._announced(look_up(plans, self.selection), pool, watch):
                started.append(self._start(request, pool, watch, threads=threads))
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
        (request,) = look_up([plan], self.selection)
        batch, pixels = self._allocate(request)
        self._fill(pixels, request.stored, _Watch())
        return batch

    def key_of(self, sample: int) -> str:
        """Return the key of a sample by its number."""
        key: bytes = self.selection.table["key"][sample]
        return key.decode()

    def keys(self, samples: NDArray[np.int64] | slice = slice(None)) -> list[str]:
        """Return the keys of samples by their numbers, or of all."""
        return [key.decode() for key in self.selection.table["key"][samples].tolist()]

    def _start(
        self, request: Request, pool: DaemonPool, watch: _Watch, *, threads: int
    ) -> tuple[Batch, list[Future[None]]]:
        batch, pixels = self._allocate(request)
        step = samples_per_task(len(request.keys), threads=threads)
        chunks = (slice(first, first + step) for first in range(0, len(request.stored), step))
        return batch, [pool.submit(self._fill, pixels[chunk], request.stored[chunk], watch) for chunk in chunks]

    def _allocate(self, request: Request) -> tuple[Batch, Row]:
        """Return a batch whose images are still to come, and its pixels (rows, H, W) as a view."""
        image = self.selection.image
        pixels = self._empty_pixels((len(request.keys), 1, image.height, image.width))
        view: Row = pixels.numpy()[:, 0]
        view[len(request.stored) :] = 0
        gender, age_months, weight = self._on_host(torch.from_numpy(request.labels))
        position = self._on_host(torch.from_numpy(request.plan.positions))
        return Batch(pixels, gender, age_months, weight, position, request.keys), view

    def _empty_pixels(self, shape: tuple[int, ...]) -> torch.Tensor:
        if self.pin_memory:
            return torch.empty(shape, dtype=torch.uint8, pin_memory=True)
        return self.memory.take(shape)

    def _on_host(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.pin_memory() if self.pin_memory else tensor

    def _announced(self, requests: Iterator[Request], pool: DaemonPool, watch: _Watch) -> Iterator[Request]:
        """Yield the requests, each when a thread has been told to announce the one behind it.

        By a thread of the pool, because the one that hands out batches shall not touch a disk that may hang.
        """
        request = next(requests, None)
        while request is not None:
            following = next(requests, None)
            if following is not None:
                pool.submit(self._announce, following.stored, watch)
            yield request
            request = following

    def _announce(self, stored: list[Stored], watch: _Watch) -> None:
        """Have the kernel fetch a batch while the one before it is decoded."""
        thread = get_ident()
        try:
            for sample in stored:
                watch.reading[thread] = sample.number
                self.storage.announce(sample.shard, sample.offset, sample.size)
        finally:
            watch.reading.pop(thread, None)

    def _fill(self, pixels: Row, stored: list[Stored], watch: _Watch) -> None:
        thread, scratch = get_ident(), self._thread_scratch()
        try:
            for row, sample in zip(pixels, stored, strict=False):
                if watch.stopped.is_set():
                    return
                watch.reading[thread] = sample.number
                self._load(sample, row, scratch)
        finally:
            watch.reading.pop(thread, None)

    def _load(self, sample: Stored, row: Row, scratch: memoryview) -> None:
        """Read, check and decode one sample; `scratch` holds its bytes meanwhile."""
        number, shard, offset, size, expected, encoding = sample
        if encoding == "npy" and size == NPY_HEADER_BYTES + row.nbytes and not self._fits:
            self._load_raw(sample, row, scratch)
            return
        contents = scratch[:size]
        self.storage.read(shard, offset, size=size, into=[contents])
        if (got := crc32(contents)) != expected:
            raise self._checksum_error(number, expected, got)
        try:
            decode_into(contents, encoding, row, fit=self._fits)
        except ValueError as error:
            raise self._image_error(number, error) from error

    def _load_raw(self, sample: Stored, row: Row, scratch: memoryview) -> None:
        """Read the pixels of a raw array straight to where they belong, and its header apart from them."""
        header = scratch[:NPY_HEADER_BYTES]
        self.storage.read(sample.shard, sample.offset, size=sample.size, into=[header, row])
        if (got := crc32(row, crc32(header))) != sample.crc32:
            raise self._checksum_error(sample.number, sample.crc32, got)
        try:
            check_npy_header(header, row)
        except ValueError as error:
            raise self._image_error(sample.number, error) from error

    @cached_property
    def _fits(self) -> bool:
        return self.selection.image.fits_at_reading

    @cached_property
    def _largest_bytes(self) -> int:
        return int(self.selection.table["size"].max())

    def _thread_scratch(self) -> memoryview:
        """Return the calling thread's buffer: fresh memory for each sample would cost more than reading into it."""
        if not hasattr(self._scratch, "view"):
            self._scratch.view = memoryview(bytearray(self._largest_bytes))
        view: memoryview = self._scratch.view
        return view

    def _describe(self, sample: int) -> str:
        shard = shard_of(np.array([sample]), self.selection.first_sample).item()
        return f"{self.selection.paths[shard]}: sample '{self.key_of(sample)}'"

    def _checksum_error(self, sample: int, expected: int, got: int) -> ShardError:
        where = f"{self._describe(sample)} fails its checksum"
        return ShardError(where, expected=f"crc32 {expected:08x}", got=f"crc32 {got:08x}", do=REBUILD)

    def _image_error(self, sample: int, error: ValueError) -> ImageError:
        image = self.selection.image
        expected = f"a gray image of {image.height} x {image.width} pixels"
        return ImageError(f"{self._describe(sample)} cannot be decoded", expected=expected, got=error, do=REBUILD)

    def _stall_error(self, watch: _Watch) -> ShardError:
        stuck = [self._describe(reading) for reading in list(watch.reading.values())]
        where = stuck[0] if stuck else str(self.selection.paths[0].parent)
        waited = f"nothing for {STALL_SECONDS:g} seconds"
        return ShardError(
            f"{where}: reading has stalled", expected="its bytes", got=waited, do="check the disk or its mount"
        )


def samples_per_task(rows: int, *, threads: int) -> int:
    """Return how many samples a thread takes at once: few enough for all threads to have work, else many."""
    return max(1, min(MAX_SAMPLES_PER_TASK, BATCHES_AHEAD * rows // threads))


def _finish(batch: Batch, tasks: list[Future[None]]) -> Batch:
    """Return the batch when its tasks are done.

    Raises:
        TimeoutError: none of them has ended for `STALL_SECONDS`.
        WdsBoneError: of the first task that failed.
    """
    pending = set(tasks)
    while pending:  # waits for all at once: to wait for each in turn would wake this thread for each
        done, pending = wait(pending, timeout=STALL_SECONDS, return_when=FIRST_EXCEPTION)
        if not done:
            raise TimeoutError
        for task in tasks:
            if task in done:
                task.result()
    return batch
