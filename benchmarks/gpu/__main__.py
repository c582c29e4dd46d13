"""Run the parts of the GPU check one after another, each for a limited time.

Command:   python -m benchmarks.gpu [tests] [headspace] [loader] [train] [--device cpu] [--minutes 8] [--images FOLDER]
Method:    each part runs in a process of its own; one that fails or takes too long does not hide the others.
Machine:   one CUDA GPU; with `--device cpu` small sizes, to try it out.
Result:    gpu-<part>-<device>.json and gpu-summary-<device>.json in `--out`. The exit code is 1 if a part failed; a
           target that was missed is not a failure.
"""

import argparse
import json
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.gpu.limited import STOP_SECONDS, TIMED_OUT, Ended, run_limited
from benchmarks.gpu.report import Options, add_common_arguments, report_path, write_json
from benchmarks.gpu.requirements import unmet_requirements

PARTS = ("tests", "headspace", "loader", "train")
MAX_MINUTES = 8.0
SPARE_SECONDS = 30.0
"""A part should have ended this long before it is interrupted."""


def parse_args() -> argparse.Namespace:
    """Return the command-line options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    add_common_arguments(parser)
    minutes = f"how long a part may take, at most {MAX_MINUTES:g} (default: %(default)g)"
    parser.add_argument("--minutes", type=float, default=MAX_MINUTES, metavar="N", help=minutes)
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"unknown part {', '.join(sorted(unknown))}; the parts are {', '.join(PARTS)}")
    if not 0 < args.minutes <= MAX_MINUTES:
        parser.error(f"--minutes {args.minutes:g} is out of range; more than 0 and at most {MAX_MINUTES:g}")
    return args


def launch_part(name: str, options: Options) -> dict[str, Any]:
    """Run a part, add how it ended to its file, and return that."""
    path = report_path(name, options)
    path.unlink(missing_ok=True)
    print(f"=== {name}", flush=True)
    inner = replace(options, seconds=max(1.0, options.seconds - SPARE_SECONDS))
    command = [sys.executable, "-u", "-m", f"benchmarks.gpu.{name}", *inner.argv()]
    stop_seconds = 1.5 * STOP_SECONDS  # a part needs some of this time to stop its own commands
    seconds = max(1.0, options.seconds - stop_seconds)
    ended = run_limited(command, seconds=seconds, own_group=True, stop_seconds=stop_seconds)
    return add_ending(path, ended, seconds=options.seconds)


def add_ending(path: Path, ended: Ended, *, seconds: float) -> dict[str, Any]:
    """Add to the file of a part how it ended, and return that with its targets; the file may be missing."""
    contents = json.loads(path.read_text()) if path.exists() else {}
    error = describe_failure(contents, ended, seconds=seconds) if ended.exit_code != 0 else None
    ending = {"exit_code": ended.exit_code, "error": error, "seconds": round(ended.seconds, 1)}
    output = {"output": list(ended.tail)} if error else {}
    write_json(path, contents | ending | output)
    return ending | {"targets": contents.get("targets", [])}


def describe_failure(contents: dict[str, Any], ended: Ended, *, seconds: float) -> str:
    """Return the errors that a part recorded, and whether it was ended or crashed after them."""
    errors = list(contents.get("errors", []))
    if ended.exit_code == TIMED_OUT:
        errors.append(f"ended after {seconds:.0f} seconds")
    elif ended.exit_code != 1 or not contents.get("is_complete"):
        errors.append("\n".join(ended.tail[-10:]))
    return "\n".join(errors)


def print_summary(outcomes: dict[str, dict[str, Any]], unmet: list[str]) -> None:
    """Print the requirements that are not met, a line for each part, and one for each target that was missed."""
    print("=== summary")
    print_unmet(unmet)
    for name, outcome in outcomes.items():
        result = "passed" if outcome["exit_code"] == 0 else f"FAILED with exit code {outcome['exit_code']}"
        met = sum(target["is_met"] for target in outcome["targets"])
        print(f"{name:10} {result}, {outcome['seconds']:.0f} s, {met} of {len(outcome['targets'])} targets met")
        for target in outcome["targets"]:
            if not target["is_met"]:
                print(f"{'':10} MISSED {target['value']:.3g} {target['description']}")


def print_unmet(unmet: list[str]) -> None:
    """Print the requirements that are not met."""
    for line in unmet:
        print(f"warning: {line}; docs/gpu.md describes how to carry packages to this machine", flush=True)


def main() -> None:
    """Run the parts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's job in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)  # the parts are interrupted by it, and inherit this
    args, unmet = parse_args(), unmet_requirements()
    print_unmet(unmet)
    images = args.images and args.images.resolve()  # the parts run in the root of the repository
    options = Options(args.device, images, args.out.resolve(), args.minutes * 60)
    outcomes: dict[str, dict[str, Any]] = {}
    for name in args.parts or PARTS:
        outcomes[name] = launch_part(name, options)
        write_json(report_path("summary", options), {"unmet_requirements": unmet, "parts": outcomes})
    print_summary(outcomes, unmet)
    sys.exit(0 if all(outcome["exit_code"] == 0 for outcome in outcomes.values()) else 1)


if __name__ == "__main__":
    main()
