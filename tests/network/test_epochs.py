"""Epochs over HTTP under faults that pass deliver what local files do; webdataset runs next to them."""

import random
import shutil
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import webdataset

from tests.network.streams import epoch_of
from tests.sample_sets import write_set
from tests.servers.answers import Request
from tests.servers.fault import Fault, Faults, at_random, fault_server
from wds_bone.objects import connections, retries

NUM_SAMPLES, SHARE = 60, 0.4
Kind = Callable[[random.Random], Fault]


def place(generator: random.Random) -> int:
    """Return a random place in a body, more often near its beginning."""
    return int(10 ** generator.uniform(0, 5))


def cut(generator: random.Random) -> Fault:
    ending, framing = generator.choice(["close", "reset"]), generator.choice(["length", "chunks", "connection"])
    return Fault(cut_at=place(generator), ending=ending, framing=framing)  # type: ignore[arg-type]


def refused(generator: random.Random) -> Fault:
    return Fault(status=generator.choice([429, 500, 502, 503, 504]), headers={"Retry-After": "0"})


PASSING: list[Kind] = [
    cut,
    refused,
    lambda generator: Fault(delay_seconds=generator.uniform(0, 0.2)),
    lambda generator: Fault(headers={"Content-Length": str(place(generator))}),
    lambda generator: Fault(ignore_range=True, cut_at=place(generator)),
]
STALLING: list[Kind] = [
    lambda generator: Fault(cut_at=place(generator), ending="stall"),
    lambda generator: Fault(bytes_per_second=2000.0),
]
FLIPPING: list[Kind] = [lambda generator: Fault(flip_bit=8 * place(generator))]


@pytest.mark.slow
@pytest.mark.fault("C5", "C6", "C7", "C10")
@pytest.mark.parametrize("num_epochs", [6, pytest.param(200, marks=[pytest.mark.stress, pytest.mark.timeout(3600)])])
def test_faulted_epochs_equal_local_ones(tmp_path: Path, num_epochs: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0.02)
    monkeypatch.setattr(retries, "LONGEST_WAIT_SECONDS", 0.1)
    monkeypatch.setattr(connections, "PACE_SECONDS", 0.5)
    folder = write_set(tmp_path / "shards", size=128, encoding="npy", train=[3] * 20)
    num_faults, num_retries = 0, 0
    for seed in range(num_epochs):
        faults = _Recorded(at_random([*PASSING, *STALLING, *FLIPPING], seed=seed, share=SHARE, path=".tar"))
        cache = "none" if seed % 2 else str(tmp_path / f"cache-{seed}")
        with fault_server(folder, faults) as url:
            rows, transfer = epoch_of(url, seed=seed, cache=cache)
        assert rows == epoch_of(folder, seed=seed)[0], f"epoch {seed}: {faults.drawn}"
        assert len([row for row in rows if row[0]]) == NUM_SAMPLES
        num_faults, num_retries = num_faults + len(faults.drawn), num_retries + transfer.retries
        shutil.rmtree(tmp_path / f"cache-{seed}", ignore_errors=True)
    assert num_faults >= num_epochs
    print(f"wds_bone: {NUM_SAMPLES} of {NUM_SAMPLES} samples, in the local order, in each of {num_epochs} epochs")
    print(f"  {num_faults} faults, {num_retries} requests repeated")
    print(f"webdataset: {_webdataset_epochs(folder, num_epochs=3)} of {NUM_SAMPLES} samples in three epochs")


class _Recorded:
    """Records faults, and flips bits of a shard only once: the second time is an error, as for a disk that fails."""

    def __init__(self, faults: Faults) -> None:
        self._faults, self._flipped, self._lock = faults, set[str](), threading.Lock()
        self.drawn: list[Fault] = []

    def __call__(self, request: Request) -> Fault | None:
        fault = self._faults(request)
        with self._lock:
            if fault is None or (fault.flip_bit is not None and request.path in self._flipped):
                return None
            if fault.flip_bit is not None:
                self._flipped.add(request.path)
            self.drawn.append(fault)
        return fault


def _webdataset_epochs(folder: Path, *, num_epochs: int) -> list[int]:
    """Return how many samples webdataset delivers under the same faults, with its handler that continues.

    It reads with curl, here as its documentation shows it, but with a limit: without one, it waits forever for the rest
    of a file that a server does not send.
    """
    if shutil.which("curl") is None:
        return []
    found = []
    for seed in range(num_epochs):
        faults = at_random([*PASSING, *STALLING, *FLIPPING], seed=seed, share=SHARE, path=".tar")
        with fault_server(folder, faults) as url, warnings.catch_warnings(action="ignore"):
            urls = [f"pipe:curl -f -s --max-time 2 {url}/train-{shard:06d}.tar" for shard in range(20)]
            stream = webdataset.WebDataset(urls, shardshuffle=False, handler=webdataset.warn_and_continue)
            found.append(sum("json" in sample for sample in stream))
    return found
