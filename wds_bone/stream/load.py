"""Load the images of planned batches in threads, straight into the batches.

In: `Request`s.
Out: `(BatchPlan, Batch)` pairs in the same order.
Invariant: the number of threads affects only the speed. When the generator ends, is dropped or is stopped, no thread is
left except one that is stuck in the operating system.
"""

import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import get_ident

import torch

from wds_bone.errors import ConfigError, ShardError
from wds_bone.storage.pool import DaemonPool
from wds_bone.stream.batch import Batch
from wds_bone.stream.decode import Row
from wds_bone.stream.lookup import Request, StoredImage
from wds_bone.stream.memory import PixelMemory
from wds_bone.stream.plan import BatchPlan
from wds_bone.stream.reader import SampleReader

BATCHES_AHEAD = 2
MAX_SAMPLES_PER_TASK = 16
WAIT_SECONDS = 1.0


@dataclass(eq=False)
class _Watch:
    """Which samples the threads of one loop are reading, and whether the loop has been stopped."""

    stopped: list[bool] = field(default_factory=list)  # that of the pool
    reading: dict[int, int] = field(default_factory=dict)  # thread -> number of the sample

    def check_not_stopped(self) -> None:
        if self.stopped:
            raise ConfigError("the loop was stopped: the stream was closed or moved", do="start a new loop")


class Outcome:
    """The outcome of a number of tasks; it holds no reference to what they work on."""

    def __init__(self, num_tasks: int) -> None:
        self._left = iter(range(num_tasks - 1, -1, -1))
        self._result: SimpleQueue[BaseException | None] = SimpleQueue()
        if not num_tasks:
            self._result.put(None)

    def report(self, error: BaseException | None) -> None:
        """Count a task that is done; the last one, and one that failed, wake the thread that waits."""
        if next(self._left) == 0 or error is not None:
            self._result.put(error)

    def wait(self, watch: _Watch, *, stall_seconds: float) -> None:
        """Wait until all tasks are done.

        Waits are counted, because a clock would also count the time in which the process itself was stopped (SIGSTOP, a
        suspended job): that is one wait. The count restarts when a thread begins to read another sample.

        Raises:
            TimeoutError: if no thread has begun to read a sample for `stall_seconds`.
            WdsBoneError: the error of a task that failed, or that the loop was stopped.
        """
        wait_seconds, num_waits, seen = min(WAIT_SECONDS, stall_seconds), 0, dict(watch.reading)
        while num_waits * wait_seconds < stall_seconds:
            watch.check_not_stopped()
            try:
                error = self._result.get(timeout=wait_seconds)
            except Empty:
                seen, before = dict(watch.reading), seen
                num_waits = num_waits + 1 if seen == before else 0
            else:
                watch.check_not_stopped()  # tasks that were stopped report success
                if error is not None:
                    raise error
                return
        raise TimeoutError


@dataclass(frozen=True, eq=False, slots=True)
class _Loading:
    """A batch whose images are being loaded."""

    request: Request
    batch: Batch
    outcome: Outcome


@dataclass(eq=False)
class Loader:
    """Loads batches with a sample reader, in one loop at a time.

    Attributes:
        reader: reads, checks and decodes one sample.
        memory: where decoded batches are kept on the CPU.
        pin_memory: allocate page-locked batches, which a GPU copies while the CPU continues.
        stall_seconds: how long no thread may begin to read a sample, in time during which the process runs; None takes
            what the storage needs.
    """

    reader: SampleReader
    memory: PixelMemory
    pin_memory: bool = False
    stall_seconds: float | None = None
    _pool: "weakref.ref[DaemonPool] | None" = field(default=None, init=False)

    def batches(self, requests: Iterable[Request], *, threads: int) -> Iterator[tuple[BatchPlan, Batch]]:
        """Yield the batches of `requests` in order; `threads` threads decode `BATCHES_AHEAD` batches ahead.

        A loop that is still running is stopped first.

        Raises:
            ConfigError: if so many threads cannot be started.
            ShardError: if a sample cannot be read or fails its checksum, or nothing arrives for `stall_seconds`; names
                the shard and the key.
            ImageError: if a sample is not the image that the index describes.
        """
        self.stop()
        pool = DaemonPool(threads, name="wds_bone-decode")
        self._pool = weakref.ref(pool)
        watch, started = _Watch(pool.stopped), deque[_Loading]()
        for request in self._prefetched(iter(requests), pool, watch):
            started.append(self._start(request, pool, watch, threads=threads))
            if len(started) > BATCHES_AHEAD:
                yield self._finish(started.popleft(), watch)
        while started:
            yield self._finish(started.popleft(), watch)
        pool.close()

    def stop(self) -> None:
        """Stop the threads of the loop that is running, if any; it cannot continue."""
        if self._pool and (pool := self._pool()):
            pool.close()

    def batch(self, request: Request) -> Batch:
        """Return one batch, decoded by the calling thread; a read that hangs does not time out."""
        batch, pixels = self._allocate(request)
        self._fill(pixels, request.images, _Watch())
        return batch

    def _start(self, request: Request, pool: DaemonPool, watch: _Watch, *, threads: int) -> _Loading:
        batch, pixels = self._allocate(request)
        step = samples_per_task(len(request.keys), threads=threads)
        chunks = [slice(first, first + step) for first in range(0, len(request.images), step)]
        outcome = Outcome(len(chunks))
        for chunk in chunks:
            pool.submit(self._fill, pixels[chunk], request.images[chunk], watch, report=outcome.report)
        return _Loading(request, batch, outcome)

    def _finish(self, loading: _Loading, watch: _Watch) -> tuple[BatchPlan, Batch]:
        try:
            loading.outcome.wait(watch, stall_seconds=self._stall_seconds)
        except TimeoutError as error:
            raise self._stall_error(watch) from error
        return loading.request.plan, loading.batch

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
        """Yield the requests; before each one, have a thread prefetch the images of those that follow it.

        A thread of the pool does it, because the thread that yields batches must not touch a disk that may hang.
        """
        ahead, num_ahead = deque[Request](), self.reader.storage.batches_ahead
        for request in requests:
            if ahead or num_ahead > 1:  # the first batch of local shards is read at once
                pool.submit(self._prefetch, request.images, watch, report=_ignore)
            ahead.append(request)
            if len(ahead) > num_ahead:
                yield ahead.popleft()
        yield from ahead

    def _prefetch(self, images: list[StoredImage], watch: _Watch) -> None:
        thread = get_ident()
        try:
            for image in images:
                if watch.stopped:
                    return
                watch.reading[thread] = image.number
                self.reader.prefetch(image)
        finally:
            watch.reading.pop(thread, None)

    def _fill(self, pixels: Row, images: list[StoredImage], watch: _Watch) -> None:
        thread, buffer = get_ident(), self.reader.thread_buffer()
        try:
            for row, image in zip(pixels, images, strict=False):
                if watch.stopped:
                    return
                watch.reading[thread] = image.number
                self.reader.read_into(image, row, buffer)
        finally:
            watch.reading.pop(thread, None)

    @property
    def _stall_seconds(self) -> float:
        return self.reader.storage.stall_seconds if self.stall_seconds is None else self.stall_seconds

    def _stall_error(self, watch: _Watch) -> ShardError:
        selection = self.reader.selection
        stuck = [selection.where(sample) for sample in list(watch.reading.values())]
        where = stuck[0] if stuck else str(selection.paths[0].parent)
        waited = f"no bytes for {self._stall_seconds:g} seconds"
        do = self.reader.storage.stall_remedy
        return ShardError(f"{where}: reading has stalled", expected="its contents", got=waited, do=do)


def samples_per_task(rows: int, *, threads: int) -> int:
    """Return how many samples a task contains: as many as possible while all threads have work."""
    return max(1, min(MAX_SAMPLES_PER_TASK, BATCHES_AHEAD * rows // threads))


def _ignore(_error: BaseException | None) -> None:
    """Ignore an error of a prefetch: the read that follows reports it."""
