"""Run interleaved rounds, and report their results as a table, a bar chart and a JSON file.

In: for each candidate, a function that runs it once and returns one measurement.
Out: the measurements of all rounds; `benchmarks/results/<name>.json` with the machine and versions, and `.png`.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.targets import Target

PACKAGES = (
    "wds-bone",
    "torch",
    "torchvision",
    "simplejpeg",
    "webdataset",
    "numpy",
    "Pillow",
    "zlib-ng",
    "imagecodecs",
    "distributed",
    "litdata",
    "nvidia-dali-cuda130",
    "obstore",
    "spdl",
)
ResultT = TypeVar("ResultT")
RESULTS = Path(__file__).parent / "results"


def add_rounds_argument(parser: argparse.ArgumentParser, *, default: int = 5) -> None:
    """Add the option `--rounds`."""
    parser.add_argument(
        "--rounds", type=int, default=default, metavar="N", help="number of measured rounds (default: %(default)s)"
    )


def run_rounds(
    candidates: dict[str, Callable[[], ResultT]], *, num_rounds: int, warm_up: bool = True
) -> dict[str, list[ResultT]]:
    """Return the measurements of each candidate; each round runs all of them, starting with a different one."""
    names = list(candidates)
    for name in names if warm_up else ():
        candidates[name]()  # warms up the page cache, the decoders and the workers
    measurements: dict[str, list[ResultT]] = {name: [] for name in names}
    for number in range(num_rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            measurements[name].append(candidates[name]())
    return measurements


def print_table(measurements: dict[str, list[float]], *, unit: str, reference: str) -> None:
    """Print the median and range of each candidate, and its ratio to the candidate named `reference`."""
    base = statistics.median(measurements[reference])
    width = max(map(len, measurements))
    print(f"{'':{width}}  {'median':>10}  {'min - max':>19}  {'of ' + reference:>12}   ({unit})")
    for name, values in measurements.items():
        median = statistics.median(values)
        print(f"{name:{width}}  {median:10,.1f}  {min(values):9,.1f} -{max(values):8,.1f}  {median / base:12.2f}")


def print_targets(targets: list[Target]) -> None:
    """Print each value next to its target."""
    for target in targets:
        bounds = {"at least": target.minimum, "at most": target.maximum}
        wanted = ", ".join(f"{bound} {value}" for bound, value in bounds.items() if value is not None)
        print(f"{target.value:10.2f}  {target.description}: {'met' if target.is_met else 'MISSED'} ({wanted})")


def draw_bars(name: str, measurements: dict[str, list[float]], *, title: str, unit: str) -> Path:
    """Write `benchmarks/results/<name>.png`: bars at the medians, with whiskers from minimum to maximum."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # only now, because `make gpu` says if it is missing
    from matplotlib.figure import Figure

    medians = {candidate: statistics.median(values) for candidate, values in measurements.items()}
    names = sorted(medians, key=lambda candidate: medians[candidate])
    figure = FigureCanvasAgg(Figure(figsize=(8, 0.4 * len(names) + 1.2), layout="constrained")).figure
    axis = figure.subplots()
    widths = [medians[candidate] for candidate in names]
    whiskers = [
        [medians[candidate] - min(measurements[candidate]) for candidate in names],
        [max(measurements[candidate]) - medians[candidate] for candidate in names],
    ]
    colors = ["#2f6690" if candidate.partition("_")[0] == "ours" else "#9db4c0" for candidate in names]
    labels = [candidate.replace("_", " ") for candidate in names]
    axis.barh(labels, widths, xerr=whiskers, color=colors, ecolor="#444444")
    axis.set_title(title)
    axis.set_xlabel(unit)
    axis.spines[["top", "right"]].set_visible(False)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.png"
    figure.savefig(path, dpi=100, metadata={"Software": None})
    return path


def save_result(name: str, contents: dict[str, Any], *, folder: Path = RESULTS) -> Path:
    """Write `<folder>/<name>.json`: the machine, the package versions and `contents`."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps({**describe_machine(), **contents}, indent=1) + "\n")
    return path


def describe_machine() -> dict[str, Any]:
    """Return the machine and the package versions, for a result."""
    machine = {"cores": len(os.sched_getaffinity(0)), "processor": _processor(), "python": platform.python_version()}
    return {
        "machine": machine,
        "versions": {package: version for package in PACKAGES if (version := _version(package))},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
