"""What all benchmarks share: interleaved rounds, medians with spread, a table, a JSON file with the circumstances."""

import importlib.metadata
import json
import os
import platform
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.targets import Target

PACKAGES = (
    "wds-bone",
    "torch",
    "torchcodec",
    "simplejpeg",
    "webdataset",
    "numpy",
    "Pillow",
    "zlib-ng",
    "imagecodecs",
    "litdata",
    "nvidia-dali-cuda130",
    "spdl",
)
RESULTS = Path(__file__).parent / "results"


def run_rounds(entrants: dict[str, Callable[[], float]], *, num_rounds: int) -> dict[str, list[float]]:
    """Return the figures of each entrant; every round runs all of them, in an order that turns round by round."""
    names = list(entrants)
    for name in names:
        entrants[name]()  # warms the page cache, the decoders and the workers
    figures: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(num_rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            figures[name].append(entrants[name]())
    return figures


def print_table(figures: dict[str, list[float]], *, unit: str, reference: str) -> None:
    """Print median, spread and the ratio to `reference`, the entrant that the others are measured against."""
    base = statistics.median(figures[reference])
    width = max(map(len, figures))
    print(f"{'':{width}}  {'median':>10}  {'min - max':>19}  {'of ' + reference:>12}   ({unit})")
    for name, values in figures.items():
        median = statistics.median(values)
        print(f"{name:{width}}  {median:10,.1f}  {min(values):9,.1f} -{max(values):8,.1f}  {median / base:12.2f}")


def print_targets(targets: list[Target]) -> None:
    """Print each figure beside what it should be."""
    for target in targets:
        bounds = {"at least": target.least, "at most": target.most}
        wanted = ", ".join(f"{bound} {value}" for bound, value in bounds.items() if value is not None)
        print(f"{target.figure:10.2f}  {target.what}: {'met' if target.is_met else 'MISSED'} ({wanted})")


def draw_bars(name: str, figures: dict[str, list[float]], *, title: str, unit: str) -> Path:
    """Write `benchmarks/results/<name>.png`: medians as bars, from least to most as whiskers."""
    medians = {entrant: statistics.median(values) for entrant, values in figures.items()}
    names = sorted(medians, key=lambda entrant: medians[entrant])
    figure = FigureCanvasAgg(Figure(figsize=(8, 0.4 * len(names) + 1.2), layout="constrained")).figure
    axis = figure.subplots()
    widths = [medians[entrant] for entrant in names]
    spread = [
        [medians[each] - min(figures[each]) for each in names],
        [max(figures[each]) - medians[each] for each in names],
    ]
    colors = ["#2f6690" if entrant == "ours" else "#9db4c0" for entrant in names]
    axis.barh([entrant.replace("_", " ") for entrant in names], widths, xerr=spread, color=colors, ecolor="#444444")
    axis.set_title(title)
    axis.set_xlabel(unit)
    axis.spines[["top", "right"]].set_visible(False)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.png"
    figure.savefig(path, dpi=100, metadata={"Software": None})
    return path


def save_result(name: str, contents: dict[str, Any]) -> Path:
    """Write `benchmarks/results/<name>.json` with the versions and the machine beside the figures."""
    machine = {"cores": len(os.sched_getaffinity(0)), "processor": _processor(), "python": platform.python_version()}
    versions = {package: version for package in PACKAGES if (version := _version(package))}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine, "versions": versions, **contents}, indent=1) + "\n")
    return path


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
