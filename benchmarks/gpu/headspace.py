"""How much faster would training on a GPU be if loading batches took no time, for three models?

Command:   python -m benchmarks.gpu.headspace [--device cuda]
Method:    `benchmarks.headspace` in bf16 for each model, with and without `--compile`, each in a process of its own;
           batches of 64, three rounds. A model that is not measured for lack of time is an error.
Machine:   one CUDA GPU; with `--device cpu` a small model at 64 pixels, without compiling it.
Result:    gpu-headspace-<device>.json: for each model the images per second of the loop and of the same loop on one
           cached batch, the fraction of time spent waiting, and the peak memory of the GPU.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.inputs import write_set
from benchmarks.gpu.limited import run_limited
from benchmarks.gpu.report import Options, Report, run_part
from benchmarks.targets import Target

LIMIT_SECONDS = 150.0
NUM_ROUNDS = 3


@dataclass(frozen=True)
class Case:
    """A model, the size of its images, and how many steps take a few seconds."""

    model: str
    size: int
    steps: int
    batch_size: int = 64
    compiled: bool = False

    @property
    def name(self) -> str:
        """A short name."""
        return f"{self.model} {self.size}{' compiled' if self.compiled else ''}"

    def argv(self) -> Iterator[str]:
        """Yield the options of `benchmarks.headspace`."""
        yield from ("--model", self.model, "--image-size", str(self.size), "--batch-size", str(self.batch_size))
        yield from ("--steps", str(self.steps), "--rounds", str(NUM_ROUNDS), "--precision", "bf16")
        yield from ["--compile"] * self.compiled


MODELS = (("resnet18", 256, 120), ("convnext_tiny", 512, 12), ("efficientnet_v2_s", 512, 25))
CASES = [Case(*model, compiled=compiled) for compiled in (False, True) for model in MODELS]
SMALL_CASES = [Case("shufflenet_v2_x0_5", 64, 2, batch_size=4)]


def measure_case(case: Case, shards: Path, options: Options, report: Report) -> dict[str, Any] | None:
    """Run the benchmark of one case, and return its result; None if it failed."""
    limit = min(LIMIT_SECONDS, report.seconds_left)
    if limit < LIMIT_SECONDS / 5:
        report.add_error(f"{case.name}: not run, no time left")
        return None
    with tempfile.TemporaryDirectory() as folder:
        paths = ["--shards", str(shards), "--device", options.device, "--out", folder]
        ended = run_limited([sys.executable, "-m", "benchmarks.headspace", *case.argv(), *paths], seconds=limit)
        results = [json.loads(path.read_text()) for path in Path(folder).glob("*.json")]
    if ended.exit_code != 0 or not results:
        report.add_error(f"{case.name}: exit code {ended.exit_code}: {' | '.join(ended.tail[-5:])}")
        return None
    return results[0]


def measure(options: Options, report: Report) -> None:
    """Run all cases, and report each as soon as it is measured."""
    cases, measured = (SMALL_CASES if options.is_small else CASES), {}
    with tempfile.TemporaryDirectory() as name:
        for case in cases:
            shards = Path(name) / str(case.size)
            if not shards.exists():
                write_set(shards, options, size=case.size, num_hands=40 if options.is_small else 600)
            result = measure_case(case, shards, options, report)
            if result is None:
                continue
            for target in result.pop("targets"):
                del target["is_met"]
                target["description"] = f"{case.name}: {target['description']}"
                report.add_targets([Target(**target)])
            measured[case.name] = {key: result[key] for key in result if key not in ("machine", "versions")}
            report.add(models=measured)


if __name__ == "__main__":
    run_part("headspace", __doc__, measure)
