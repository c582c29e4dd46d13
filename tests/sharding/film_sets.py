"""Write tiny films with a label table, and run `wds-bone make-shards` on them."""

import hashlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from tests.sample_sets import age_of, image_of
from wds_bone.make_shards import main
from wds_bone.shards.manifest import MANIFEST_NAME, read_manifest
from wds_bone.shards.sidecars import read_sidecar

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "make_shards.py"
DEADLINE_SECONDS = 110


def write_films(folder: Path, num_films: int, *, first: int = 0) -> list[str]:
    """Write films of 16 x 16 pixels and `labels.csv` to `folder`, and return the arguments that select them."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["id,boneage,male"]
    for number in range(first, first + num_films):
        Image.fromarray(image_of(number, 16)).save(folder / f"hand-{number}.png")
        rows.append(f"hand-{number},{age_of(number)},{bool(number % 2)}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return ["--labels", str(folder / "labels.csv"), "--images", str(folder)]


def make(out: Path, *arguments: str) -> int:
    """Run the command in this process with small images, on a cluster or with one worker, and return its exit code."""
    defaults = {"--size": "16", "--encoding": "png", "--samples-per-shard": "8"}
    defaults |= {} if "--scheduler" in arguments else {"--workers": "1"}
    rest = [text for name, value in defaults.items() if name not in arguments for text in (name, value)]
    return main(["--out", str(out), *rest, *arguments])


def start(out: Path, *arguments: str, wrapper: tuple[str, ...] = (), **options: object) -> "subprocess.Popen[str]":
    """Start the command in a new process, which reacts to Ctrl-C even if the tests run in the background."""
    command = [*wrapper, sys.executable, str(SCRIPT), "--out", str(out), *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "preexec_fn": _enable_interrupts}
    return subprocess.Popen(command, **pipes, **options)  # type: ignore[call-overload, no-any-return]


def _enable_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Wait for a command to end, and return its exit code and its output."""
    out, err = process.communicate(timeout=DEADLINE_SECONDS)
    return process.returncode, out, err


def wait_until(condition: Callable[[], object], *, seconds: float = DEADLINE_SECONDS) -> None:
    """Wait until `condition` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.01)


def writers_of(out: Path) -> list[int]:
    """Return the ids of the processes that have an unfinished shard open."""
    writers = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            links = [str(descriptor.readlink()) for descriptor in (process / "fd").iterdir()]
        except OSError:
            continue
        if any(link.startswith(f"{out}/") and ".tar." in link and link.endswith(".tmp") for link in links):
            writers.append(int(process.name))
    return writers


def names_in(folder: Path) -> list[str]:
    """Return the sorted names of the entries of `folder`."""
    return sorted(path.name for path in folder.iterdir())


def keys(out: Path, split: str) -> set[str]:
    """Return the keys of all samples of `split` in the set `out`."""
    shards = read_manifest(out / MANIFEST_NAME).splits[split].shards
    return {key.decode() for shard in shards for key in read_sidecar(out, shard)["key"].tolist()}


def digests(out: Path) -> dict[str, str]:
    """Return the sha256 of every file in `out` except the lock, by name."""
    files = (path for path in out.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
