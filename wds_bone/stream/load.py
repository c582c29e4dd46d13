"""Load the images of planned batches in threads, straight into the batches.

In: `Request`s.
Out: `(BatchPlan, Batch)` pairs in the same order.
Invariant: the number of threads affects only the speed. When the generator is closed, no thread is left except
one that is stuck in the operating system.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from dataclasses import dataclass, field
from threading import Event, get_ident

import torch

from wds_bone.errors import ShardError
from wds_bone.stream.batch import Batch
from wds_bone.stream.decode import Row
from wds_bone.stream.lookup import Request, StoredImage
from wds_bone.stream.memory import PixelMemory
from wds_bone.stream.plan import BatchPlan
from wds_bone.stream.pool import DaemonPool
from wds_bone.stream.reader import SampleReader

BATCHES_AHEAD = 2
MAX_SAMPLES_PER_TASK = 16
STALL_SECONDS = 120.0


@dataclass(eq=False)
class _Watch:
    """Which samples the threads of one loop are reading, and whether the threads must stop."""

    reading: dict[int, int] = field(default_factory=dict)  # thread -> number of the sample
    stopped: Event = field(default_factory=Event)


@dataclass(eq=False)
class Loader:
    """Loads batches with a sample reader.

    Attributes:
        reader: reads, checks and decodes one sample.
        memory: where decoded batches are kept on the CPU.
        pin_memory: allocate page-locked batches, which a GPU copies while the CPU continues.
    """

    reader: SampleReader
    memory: PixelMemory
    pin_memory: bool = False

    def batches(self, requests: Iterable[Request], *, threads: int) -> Iterator[tuple[BatchPlan, Batch]]:
        """Yield the batches of `requests` in order; `threads` threads decode `BATCHES_AHEAD` batches ahead.

        Raises:
            ShardError: if a sample cannot be read or fails its checksum, or nothing arrives for `STALL_SECONDS`; names
                the shard and the key.
            ImageError: if a sample is not the image that the index describes.
        """
        watch, pool = _Watch(), DaemonPool(threads, name="wds_bone-decode")
        started: deque[tuple[Request, Batch, list[Future[None]]]] = deque()
        try:
            for request in self._prefetched(iter(requests), pool, watch):
                started.append((request, *self._start(request, pool, watch, threads=threads)))
                if len(started) > BATCHES_AHEAD:
                    yield _finish(*started.popleft())
            while started:
                yield _finish(*started.popleft())
        except TimeoutError as error:
            raise self._stall_error(watch) from error
        finally:
            watch.stopped.set()
            pool.close()

    def batch(self, request: Request) -> Batch:
        """Return one batch, decoded by the calling thread; a read that hangs does not time out."""
        batch, pixels = self._allocate(request)
        self._fill(pixels, request.images, _Watch())
        return batch

    def _start(
        self, request: Request, pool: DaemonPool, watch: _Watch, *, threads: int
    ) -> tuple[Batch, list[Future[None]]]:
        batch, pixels = self._allocate(request)
        step = samples_per_task(len(request.keys), threads=threads)
        chunks = (slice(first, first + step) for first in range(0, len(request.images), step))
        return batch, [pool.submit(self._fill, pixels[chunk], request.images[chunk], watch) for chunk in chunks]

    def _allocate(self, request: Request) -> tuple[Batch, Row]:
        """Return a batch whose images are not loaded yet, and a view of its pixels, (rows, H, W)."""
        image = self.reader.selection.image
        pixels = self._empty_pixels((len(request.keys), 1, image.height, image.width))
        view: Row = pixels.numpy()[:, 0]
        view[len(request.images) :] = 0
        gender, age_months, weight = self._pin(torch.from_numpy(request.labels))
        position = self._pin(torch.from_numpy(request.plan.positions))
        return Batch(pixels, gender, age_months, weight, position, request.keys), view

    def _empty_pixels(self, shape: tuple[int, ...]) -> torch.Tensor:
        if self.pin_memory:
            return torch.empty(shape, dtype=torch.uint8, pin_memory=True)
        return self.memory.take(shape)

    def _pin(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.pin_memory() if self.pin_memory else tensor

    def _prefetched(self, requests: Iterator[Request], pool: DaemonPool, watch: _Watch) -> Iterator[Request]:
        """Yield the requests; before each one, have a thread prefetch the images of the next one.

        A thread of the pool does it, because the thread that yields batches must not touch a disk that may hang.
        """
        request = next(requests, None)
        while request is not None:
            following = next(requests, None)
            if following is not None:
                pool.submit(self._prefetch, following.images, watch)
            yield request
            request = following

    def _prefetch(self, images: list[StoredImage], watch: _Watch) -> None:
        thread = get_ident()
        try:
            for image in images:
                watch.reading[thread] = image.number
                self.reader.prefetch(image)
        finally:
            watch.reading.pop(thread, None)

    def _fill(self, pixels: Row, images: list[StoredImage], watch: _Watch) -> None:
        thread, buffer = get_ident(), self.reader.thread_buffer()
        try:
            for row, image in zip(pixels, images, strict=False):
                if watch.stopped.is_set():
                    return
                watch.reading[thread] = image.number
                self.reader.read_into(image, row, buffer)
        finally:
            watch.reading.pop(thread, None)

    def _stall_error(self, watch: _Watch) -> ShardError:
        selection = self.reader.selection
        stuck = [selection.where(sample) for sample in list(watch.reading.values())]
        where = stuck[0] if stuck else str(selection.paths[0].parent)
        waited = f"no bytes for {STALL_SECONDS:g} seconds"
        return ShardError(
            f"{where}: reading has stalled", expected="its contents", got=waited, do="check the disk or its mount"
        )


def samples_per_task(rows: int, *, threads: int) -> int:
    """Return how many samples a task contains: as many as possible while all threads have work."""
    return max(1, min(MAX_SAMPLES_PER_TASK, BATCHES_AHEAD * rows // threads))


def _finish(request: Request, batch: Batch, tasks: list[Future[None]]) -> tuple[BatchPlan, Batch]:
    """Return the batch and its plan once its tasks are done.

    Raises:
        TimeoutError: if none of them has finished for `STALL_SECONDS`.
        WdsBoneError: the error of the first task that failed.
    """
    pending = set(tasks)
    while pending:  # waits for all at once: waiting for each in turn would wake this thread once per task
        done, pending = wait(pending, timeout=STALL_SECONDS, return_when=FIRST_EXCEPTION)
        if not done:
            raise TimeoutError
        for task in tasks:
            if task in done:
                task.result()
    return request.plan, batch
