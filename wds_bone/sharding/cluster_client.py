"""Connect to a Dask scheduler, and follow the tasks that it runs.

In: the address of a scheduler.
Out: a client, an executor, and the number of samples that workers have written.
Invariant: the connection and the tasks end with the block that opened them, whatever ended it.
"""

import concurrent.futures
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from wds_bone.errors import ConfigError
from wds_bone.storage.durable import warn_once

if TYPE_CHECKING:
    from distributed import Client

QUIET_SECONDS = 10.0
CLOSE_SECONDS = 2.0


@contextmanager
def connect(address: str) -> Iterator["Client"]:
    """Yield a client of the Dask scheduler at `address`.

    Raises:
        ConfigError: if Dask is not installed, or no scheduler answers.
    """
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        problem = f"--scheduler {address}: the extra `cluster` is not installed"
        raise ConfigError(problem, do="run `pip install distributed`, or leave this option out") from error
    client = Client.__new__(Client)  # it connects in __init__, and must also be closed if that fails
    with _quiet(logging.getLogger("distributed.client")):
        try:
            with _connection_errors(address):
                client.__init__(address, set_as_default=False)
            yield client
        finally:
            with suppress(TimeoutError):
                client.close(timeout=CLOSE_SECONDS)


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Keep a logger from printing tracebacks of what is reported as an error with a remedy."""
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _connection_errors(address: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, TypeError) as error:  # TypeError: no certificates are configured for tls://
        raise ConfigError(
            f"--scheduler {address}: no Dask scheduler answers",
            expected="the address that `dask scheduler` prints, such as tcp://10.0.0.1:8786",
            got=error,
            do="check the address, and that the scheduler is running",
        ) from error


@contextmanager
def canceled_at_end(client: "Client") -> Iterator[concurrent.futures.Executor]:
    """Yield an executor on the cluster, and cancel its tasks at the end, so that workers stop after an error."""
    executor = client.get_executor(pure=False)
    try:
        yield executor
    finally:
        executor.shutdown(wait=False)


@contextmanager
def sample_counts(client: "Client", *, topic: str) -> Iterator[dict[str, int]]:
    """Yield the number of samples done of each shard, as the workers report it while they write."""
    counts: dict[str, int] = {}

    def note(event: tuple[float, tuple[str, int]]) -> None:
        name, num_done = event[1]
        counts[name] = max(num_done, counts.get(name, 0))  # an attempt that follows a lost one starts again

    client.subscribe_topic(topic, note)
    try:
        yield counts
    finally:
        client.unsubscribe_topic(topic)


def progress_poll(client: "Client", counts: dict[str, int], show: Callable[[int], None]) -> Callable[[], None]:
    """Return a function that shows the progress, and warns if there is none because no worker is connected."""
    last_done, last_change = 0, time.monotonic()

    def poll() -> None:
        nonlocal last_done, last_change
        done, now = sum([*counts.values()]), time.monotonic()
        if done != last_done:
            last_done, last_change = done, now
            show(done)
        elif now - last_change > QUIET_SECONDS:
            last_change = now
            with suppress(OSError):  # if the connection is lost, the attempts will say so
                if not client.nthreads():
                    warn_once("no workers are connected to the scheduler; waiting for them")

    return poll
