"""Do the tests that need a GPU pass?

Command:   python -m benchmarks.gpu.tests [--device cuda]
Method:    pytest on the files `test_*_cuda.py`, one after another, each for a limited time; launches are last, because
           they wait longest if they hang. The packages of other tests may be missing.
Machine:   one CUDA GPU; with `--device cpu` all tests are collected and skipped.
Result:    gpu-tests-<device>.json: the outcome of each test, with its message if it failed or was skipped.
"""

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from benchmarks.gpu.limited import ROOT, run_limited
from benchmarks.gpu.report import Options, Report, run_part

FILE_SECONDS, MIN_SECONDS = 200.0, 10.0
"""How long the tests of a file may take, and what must be left of the time to start them."""
LAST = "test_nccl_cuda.py"
_MAX_MESSAGE = 4000


def outcome_of(case: ElementTree.Element) -> dict[str, Any]:
    """Return the name, outcome, duration and message of a test from JUnit's XML."""
    found = next((child for child in case if child.tag in ("failure", "error", "skipped")), None)
    outcome = {None: "passed", "failure": "failed", "error": "failed", "skipped": "skipped"}
    message = "" if found is None else f"{found.get('message', '')}\n{found.text or ''}"
    return {
        "test": f"{case.get('classname')}::{case.get('name')}",
        "outcome": outcome[None if found is None else found.tag],
        "seconds": float(case.get("time", "0")),
        "message": message.strip()[:_MAX_MESSAGE],
    }


def run_files(names: Sequence[str], report: Report) -> list[dict[str, Any]]:
    """Run the tests of some files, and return their outcomes; an error if they did not all pass or took too long."""
    limit = min(FILE_SECONDS, report.seconds_left)
    if limit < MIN_SECONDS:
        report.add_error(f"{', '.join(names)}: not run, no time left")
        return []
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "junit.xml"
        # The versions of the machine are not those of this project, so their warnings are no failures.
        # The name of each test is printed before it starts: pytest writes its results only at the end.
        options = ["-vv", "-m", "gpu", "-W", "default", "-p", "no:cacheprovider", f"--junitxml={results}", *names]
        ended = run_limited([sys.executable, "-u", "-m", "pytest", *options], seconds=limit)
        tests = [outcome_of(case) for case in ElementTree.parse(results).iter("testcase")] if results.exists() else []
    if ended.exit_code != 0:
        num_failed, files = sum(test["outcome"] == "failed" for test in tests), ", ".join(names)
        report.add(outputs=report.contents.get("outputs", {}) | {files: list(ended.tail)})
        report.add_error(f"{files}: pytest ended with exit code {ended.exit_code}: {num_failed} tests failed")
    return tests


def cuda_test_files() -> list[str]:
    """Return the files of the tests that need a GPU, those that launch processes last."""
    paths = sorted((ROOT / "tests").rglob("test_*_cuda.py"), key=lambda path: (path.name == LAST, path))
    return [str(path.relative_to(ROOT)) for path in paths]


def measure(options: Options, report: Report) -> None:
    """Run the tests file by file, and report each test."""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # read once, and needed by tests that compare bits
    if options.is_small:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    files, tests = cuda_test_files(), []
    for names in [files] if options.is_small else [[name] for name in files]:  # a test that hangs hides no other file
        tests += run_files(names, report)
        counts = {name: sum(test["outcome"] == name for test in tests) for name in ("passed", "failed", "skipped")}
        report.add(**counts, tests=tests)
    if not options.is_small and counts["skipped"]:
        report.add_error(f"{counts['skipped']} tests were skipped")


if __name__ == "__main__":
    run_part("tests", __doc__, measure)
