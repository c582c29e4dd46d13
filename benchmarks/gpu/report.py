"""The settings of a part, and the file that it writes.

In: a command line, and what a part measures.
Out: `gpu-<part>-<device>.json`.
Invariant: the file always holds everything that has been measured so far, so that a part that is killed loses nothing.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks.rounds import RESULTS, describe_machine, print_targets
from benchmarks.targets import Target, as_json

Device = Literal["cuda", "cpu"]


@dataclass(frozen=True)
class Options:
    """The settings of a part.

    Attributes:
        device: "cuda"; or "cpu", which tries the part out with small sizes.
        images: folder of films with their `labels.csv`, from `benchmarks.gpu.carry`; None for synthetic hands.
        out: folder of the results.
        seconds: how long the part may take.
    """

    device: Device
    images: Path | None
    out: Path
    seconds: float

    @property
    def is_small(self) -> bool:
        """Whether to try out only."""
        return self.device == "cpu"

    def argv(self) -> list[str]:
        """Return the command line of a part."""
        films = ["--images", str(self.images)] if self.images else []
        return ["--device", self.device, "--out", str(self.out), "--seconds", str(self.seconds), *films]


@dataclass
class Report:
    """What a part has measured, which `add` also writes to its file.

    Attributes:
        path: the file.
        contents: its contents, in plain JSON types.
        errors: what went wrong; the part continues with the rest.
        deadline: the time of `time.monotonic` at which the part should have ended.
    """

    path: Path
    deadline: float
    contents: dict[str, Any] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    @property
    def seconds_left(self) -> float:
        """How long the part may still take."""
        return self.deadline - time.monotonic()

    def add(self, **measured: Any) -> None:
        """Add what was measured, and write everything."""
        self.contents |= measured | {"errors": self.errors}
        write_json(self.path, self.contents)

    def add_error(self, text: str) -> None:
        """Record and print what went wrong."""
        print(f"error: {text}", flush=True)
        self.errors.append(text)
        self.add()

    def add_targets(self, targets: list[Target]) -> None:
        """Print the targets, and add them to those before."""
        print_targets(targets)
        known = self.contents.get("targets", [])
        self.add(targets=known + [as_json(target) for target in targets])


def parse_options(description: str | None) -> Options:
    """Return the settings of a part from its command line."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_arguments(parser)
    parser.add_argument("--seconds", type=float, default=480.0, metavar="N", help="how long it may take")
    return Options(**vars(parser.parse_args()))


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that the parts share with `python -m benchmarks.gpu`."""
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: try out with small sizes")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="films and labels.csv (default: synthetic hands)")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FOLDER", help="folder of the results")


def report_path(name: str, options: Options) -> Path:
    """Return the file of a part, or of the summary."""
    return options.out / f"gpu-{name}-{options.device}.json"


def run_part(name: str, description: str | None, measure: Callable[[Options, Report], None]) -> None:
    """Run a part with the settings of the command line; exit with code 1 if something went wrong."""
    options = parse_options(description)
    report = Report(report_path(name, options), time.monotonic() + options.seconds)
    report.add(part=name, **describe_machine(), **_describe_device(options.device))
    measure(options, report)
    report.add(is_complete=True)
    sys.exit(1 if report.errors else 0)


def write_json(path: Path, contents: Any) -> None:
    """Write a file at once, so that a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(contents, indent=1) + "\n")
    unfinished.replace(path)


def _describe_device(device: Device) -> dict[str, Any]:
    import torch  # only now, because the summary needs no torch

    if device == "cpu":
        return {"device": {"name": "cpu", "torch": torch.__version__}}
    found = torch.cuda.get_device_properties(0)
    cudnn = torch.backends.cudnn.version()
    versions = {"torch": torch.__version__, "cuda": torch.version.cuda, "cudnn": cudnn}
    return {"device": {"name": found.name, "memory_bytes": found.total_memory, **versions}}
