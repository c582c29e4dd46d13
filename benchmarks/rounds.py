"""What all benchmarks share: interleaved rounds, medians with spread, a table, a JSON file with the circumstances."""

import importlib.metadata
import json
import os
import platform
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

PACKAGES = ("wds-bone", "torch", "torchcodec", "simplejpeg", "webdataset", "numpy")
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


def save_result(name: str, contents: dict[str, Any]) -> Path:
    """Write `benchmarks/results/<name>.json` with the versions and the machine beside the figures."""
    machine = {"cores": len(os.sched_getaffinity(0)), "processor": _processor(), "python": platform.python_version()}
    versions = {package: importlib.metadata.version(package) for package in PACKAGES}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine, "versions": versions, **contents}, indent=1) + "\n")
    return path


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
