"""Run one loader in a separate process, and control it from the benchmark.

In: the name of a module in `benchmarks.loaders`, and the samples.
Out: seconds per epoch, and the delivered labels and gray values for the comparison.
Invariant: loaders share nothing but the machine, and at any time only the one that was asked is working, apart from
what it reads ahead.

    python -m benchmarks.loader_process NAME SAMPLES FOLDER SIZE ENCODING    reads `epoch` or `check` from stdin
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

from benchmarks.environments import interpreter_for
from benchmarks.loaders import BATCH_SIZE

ROOT = Path(__file__).parent.parent
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
LIMIT = "decode_only"
REQUIRED = ("ours", LIMIT)
LOADER_NAMES = (
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
Rows = list[tuple[float, float, float]]


class LoaderError(Exception):
    """A loader does not run on this machine."""


class LoaderProcess(AbstractContextManager["LoaderProcess"]):
    """Owns the process of one loader; if the loader's format is missing, another process prepares it first."""

    def __init__(self, name: str, samples: Path, folder: Path, *, size: int, encoding: str) -> None:
        command = _command(name, samples, folder, size=size, encoding=encoding)
        prepare(name, samples, folder, size=size, encoding=encoding)
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.name = name
        self.imported_bytes = int(self._read_answer()["memory_bytes"])  # before any file is opened
        self._read_answer()

    @property
    def pid(self) -> int:
        """The process ID."""
        return self._process.pid

    def images_per_second(self) -> float:
        """Run one epoch and return its speed."""
        answer = self.request("epoch")
        return answer["num_samples"] / answer["seconds"]

    def request(self, command: str) -> dict[str, Any]:
        """Send `epoch` or `check` to the process and return its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._read_answer()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def _read_answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        if (found := find_answer(self._process.stdout)) is None:
            raise LoaderError(f"{self.name}: the process ended with exit code {self._process.wait()}")
        return found


def find_answer(lines: Iterable[str]) -> dict[str, Any] | None:
    """Return the next answer that a process has printed, or None."""
    for line in lines:
        if line.startswith("ANSWER "):
            found: dict[str, Any] = json.loads(line.removeprefix("ANSWER "))
            return found
    return None


def prepare(name: str, samples: Path, folder: Path, *, size: int, encoding: str) -> None:
    """Let another process write the samples in the format of a loader, unless the folder exists."""
    if folder.exists():
        return
    command = _command(name, samples, folder, size=size, encoding=encoding)
    prepared = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, check=False)
    if prepared.returncode != 0:
        shutil.rmtree(folder, ignore_errors=True)
        raise LoaderError(f"{name}: preparing its files failed with exit code {prepared.returncode}")
    folder.mkdir(exist_ok=True)  # for loaders without a format of their own


def _command(name: str, samples: Path, folder: Path, *, size: int, encoding: str) -> list[str]:
    module = "benchmarks.loader_process"
    return [interpreter_for(name), "-m", module, name, str(samples), str(folder), str(size), encoding]


def require_whole_batches(num_samples: int) -> None:
    """Exit unless the samples fill whole batches, because loaders differ in how they treat a remainder."""
    if num_samples % BATCH_SIZE:
        raise SystemExit(f"--num-samples {num_samples}: must be a multiple of {BATCH_SIZE}")


def with_required(names: Iterable[str]) -> list[str]:
    """Return the given loaders with ours first and the limit last, both added if missing."""
    return ["ours", *(name for name in names if name not in REQUIRED), LIMIT]


def open_loaders(
    names: Iterable[str], folder: Path, stack: ExitStack, *, size: int, encoding: str, shared: bool = True
) -> list[LoaderProcess]:
    """Return the loaders, opened one after another; print and leave out those that do not run on this machine."""
    loaders = []
    for name in names:
        try:
            loaders.append(stack.enter_context(open_loader(name, folder, size=size, encoding=encoding, shared=shared)))
        except LoaderError as error:
            if name in REQUIRED:
                raise SystemExit(str(error)) from error
            print(f"left out: {error}", flush=True)
    return loaders


def open_loader(name: str, folder: Path, *, size: int, encoding: str, shared: bool = True) -> LoaderProcess:
    """Return a loader for the samples in `folder/samples`.

    If `shared`, all loaders that read our shards read the same files; otherwise each has its own copy.
    """
    own_folder = folder / (SHARED_FORMAT.get(name, name) if shared else name)
    return LoaderProcess(name, folder / "samples", own_folder, size=size, encoding=encoding)


def check_equal(loaders: list[LoaderProcess]) -> None:
    """Raise unless all loaders deliver the same samples: gender, age and mean gray value of each image."""
    require_equal({loader.name: loader.request("check")["rows"] for loader in loaders})


def require_equal(rows: dict[str, Rows]) -> None:
    """Raise unless the rows of all loaders are those of the first one."""
    arrays = {name: np.array(found) for name, found in rows.items()}
    expected = next(iter(arrays.values()))
    for name, found in arrays.items():
        assert found.shape == expected.shape, f"{name} delivers {len(found)} samples, not {len(expected)}"
        assert np.array_equal(found[:, :2], expected[:, :2]), f"{name} delivers different labels"
        difference = np.abs(found[:, 2] - expected[:, 2]).max()
        assert difference < 0.5, f"{name} delivers different images"  # decoders may round differently


def memory_of_tree(pid: int) -> int:
    """Return the memory of a process and its descendants in bytes, counting shared pages once (PSS).

    Mapped files do not count: they are in the page cache, like files that are read without mapping.
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
    """Prepare the loader's files if they are missing; otherwise open the loader and serve standard input."""
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nothing writes to it
    loader = importlib.import_module(f"benchmarks.loaders.{name}")
    if not folder.exists():
        loader.prepare(samples, folder)
        return
    answer({"memory_bytes": memory_of_tree(os.getpid())})
    epoch = loader.open_epochs(samples, folder, size=size, encoding=encoding)
    answer({})
    for line in sys.stdin:
        answer({"rows": read_rows(epoch())} if line.strip() == "check" else _time(epoch))


def _time(epoch: Any) -> dict[str, Any]:
    start, num_samples = time.perf_counter(), 0
    for image, _, _ in epoch():
        num_samples += len(image)
    return {"seconds": time.perf_counter() - start, "num_samples": num_samples}


def read_rows(batches: Iterable[tuple[Any, Any, Any]]) -> Rows:
    """Return gender, age and mean gray value of each sample, sorted."""
    rows: Rows = []
    for image, gender, age_months in batches:
        pixels = np.asarray(image).reshape(len(image), -1)
        gray = pixels.mean(1) * (1 if pixels.dtype == np.uint8 else 255)
        rows += zip(np.asarray(gender).tolist(), np.asarray(age_months).tolist(), gray.tolist(), strict=True)
    return sorted(rows)


def answer(contents: dict[str, Any]) -> None:
    """Print a line for `find_answer`."""
    print("ANSWER", json.dumps(contents), flush=True)


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), size=int(sys.argv[4]), encoding=sys.argv[5])
