"""One entrant of a benchmark in a process of its own, and the handle by which a benchmark drives it.

In: the name of a module in `benchmarks.entrants` and the samples. Out: seconds per epoch. Invariant: entrants share
nothing but the machine, and only the one that is asked works, but for what it reads ahead.

    python -m benchmarks.lane NAME SAMPLES FOLDER SIZE ENCODING      reads `epoch` or `check` from standard input
"""

import importlib
import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Iterable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from benchmarks.entrants import BATCH_SIZE
from benchmarks.environments import python_of

ROOT = Path(__file__).parent.parent
LIMIT = "decode_only"
REQUIRED = ("ours", LIMIT)
NAMES = (
    "ours",
    "dali",
    "in_ram",
    "loose_files",
    "litdata_chunks",
    "webdataset_tuned",
    "webdataset_documented",
    "mosaic",
    "spdl_files",
    LIMIT,
)
SHARED_FORMAT = {"webdataset_tuned": "ours", "webdataset_documented": "ours", "dali": "ours"}


class LaneError(Exception):
    """An entrant does not run here."""


class Lane(AbstractContextManager["Lane"]):
    """Owns the process of one entrant; a process before it prepares the entrant's own format, if that is missing."""

    def __init__(self, name: str, samples: Path, folder: Path, *, size: int, encoding: str) -> None:
        command = [python_of(name), "-m", "benchmarks.lane", name, str(samples), str(folder), str(size), encoding]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        if not folder.exists():
            prepared = subprocess.run(command, cwd=ROOT, env=environment, check=False)
            if prepared.returncode != 0:
                shutil.rmtree(folder, ignore_errors=True)
                raise LaneError(f"{name}: cannot be prepared, exit code {prepared.returncode}")
            folder.mkdir(exist_ok=True)  # for those that have no format of their own
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.name = name
        self.imported_bytes = int(self._hear()["memory_bytes"])  # before anything was opened
        self._hear()

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def images_per_second(self) -> float:
        """Run one epoch and return its speed."""
        answer = self.ask("epoch")
        return answer["num_samples"] / answer["seconds"]

    def ask(self, what: str) -> dict[str, Any]:
        """Have `epoch` or `check` done and return the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()
        return self._hear()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("ANSWER "):
                answer: dict[str, Any] = json.loads(line.removeprefix("ANSWER "))
                return answer
        raise LaneError(f"{self.name}: ended with exit code {self._process.wait()}")


def refuse_remainder(num_samples: int) -> None:
    """End the program unless the samples are whole batches, which loaders treat alike."""
    if num_samples % BATCH_SIZE:
        raise SystemExit(f"--num-samples {num_samples}: give a multiple of {BATCH_SIZE}")


def with_required(names: Iterable[str]) -> list[str]:
    """Return the named entrants, ours first and the limit last, whether named or not."""
    return ["ours", *(name for name in names if name not in REQUIRED), LIMIT]


def open_lanes(
    names: Iterable[str], folder: Path, stack: ExitStack, *, size: int, encoding: str, shared: bool = True
) -> list[Lane]:
    """Return the entrants, opened one after another; a peer that does not run here is left out with a word."""
    lanes = []
    for name in names:
        try:
            lanes.append(stack.enter_context(open_lane(name, folder, size=size, encoding=encoding, shared=shared)))
        except LaneError as error:
            if name in REQUIRED:
                raise SystemExit(str(error)) from error
            print(f"{error}: left out", flush=True)
    return lanes


def open_lane(name: str, folder: Path, *, size: int, encoding: str, shared: bool = True) -> Lane:
    """Return an entrant for the samples in `folder/samples`; if `shared`, those that read our shards read the same."""
    home = folder / (SHARED_FORMAT.get(name, name) if shared else name)
    return Lane(name, folder / "samples", home, size=size, encoding=encoding)


def check_equal(lanes: list[Lane]) -> None:
    """Raise unless all entrants deliver the same samples: gender, age and mean gray value, image by image."""
    rows = {lane.name: np.array(lane.ask("check")["rows"]) for lane in lanes}
    expected = next(iter(rows.values()))
    for name, found in rows.items():
        assert found.shape == expected.shape, f"{name} delivers {len(found)} samples, not {len(expected)}"
        assert np.array_equal(found[:, :2], expected[:, :2]), f"{name} delivers other labels"
        assert np.abs(found[:, 2] - expected[:, 2]).max() < 0.5, f"{name} delivers other images"  # decoders round


def memory_of_tree(pid: int) -> int:
    """Return the memory of a process and its descendants in bytes; pages that several share count once (PSS).

    Mapped files do not count: their pages are the kernel's, as those are that others read.
    """
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        children = [child for task in Path(f"/proc/{pid}/task").iterdir() for child in _children(task)]
    except (FileNotFoundError, ProcessLookupError):
        return 0
    own = sum(1024 * int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))
    return own + sum(memory_of_tree(child) for child in children)


def _children(task: Path) -> list[int]:
    return [int(child) for child in (task / "children").read_text().split()]


def serve(name: str, samples: Path, folder: Path, *, size: int, encoding: str) -> None:
    """Prepare and open an entrant, then answer what standard input asks until it ends."""
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nobody writes into it
    entrant = importlib.import_module(f"benchmarks.entrants.{name}")
    if not folder.exists():
        entrant.prepare(samples, folder)
        return
    _answer({"memory_bytes": memory_of_tree(os.getpid())})
    epoch = entrant.open_epochs(samples, folder, size=size, encoding=encoding)
    _answer({})
    for line in sys.stdin:
        _answer(_check(epoch()) if line.strip() == "check" else _time(epoch))


def _time(epoch: Any) -> dict[str, Any]:
    start, num_samples = time.perf_counter(), 0
    for image, _, _ in epoch():
        num_samples += len(image)
    return {"seconds": time.perf_counter() - start, "num_samples": num_samples}


def _check(batches: Any) -> dict[str, Any]:
    rows: list[tuple[float, float, float]] = []
    for image, gender, age_months in batches:
        pixels = np.asarray(image).reshape(len(image), -1)
        gray = pixels.mean(1) * (1 if pixels.dtype == np.uint8 else 255)
        rows += zip(np.asarray(gender).tolist(), np.asarray(age_months).tolist(), gray.tolist(), strict=True)
    return {"rows": sorted(rows)}


def _answer(contents: dict[str, Any]) -> None:
    print("ANSWER", json.dumps(contents), flush=True)


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), size=int(sys.argv[4]), encoding=sys.argv[5])
