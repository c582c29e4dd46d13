"""Which settings of the training make a model better in the same time?

Command:   python -m benchmarks.levers --shards PATH [--runs runs/levers] [--only NAME...] [--set KEY=VALUE...]
           [--name levers] [--against FILE]
Compared:  short trainings, one for each section of `benchmarks/levers.toml`, with a single seed.
Method:    `wds-bone train`, one after the other. A run that is finished is not repeated, and one that was stopped
           continues, so the command may be stopped at any time (`timeout 590 python -m benchmarks.levers ...`). `--set`
           changes the base, which needs another `--runs`; `epochs_factor` of a lever multiplies its epochs. The errors
           are those of the best epoch on the validation films; the interval of a difference is that of a paired
           bootstrap over these films. `--against` the result of a longer schedule prints Spearman's rank correlation of
           the errors: whether the short one ranks like it.
Machine:   CPU; the minutes of the processor are those of all launches of a run, on all cores.
Result:    benchmarks/results/<name>.json and a table; EXPERIMENTS.md draws the conclusion.
"""

import argparse
import json
import resource
import signal
import subprocess
import sys
import tomllib
from collections.abc import Collection
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from benchmarks.rounds import save_result
from wds_bone.config_file import parse_assignments, settings_as_toml
from wds_bone.inference.predictions import PREDICTIONS_NAME, read_predictions
from wds_bone.learn.metrics_file import METRICS_NAME, read_metrics
from wds_bone.learn.settings import TrainConfig
from wds_bone.report.comparison import compare
from wds_bone.report.metrics import summarize

LEVERS = Path(__file__).with_suffix(".toml")
BASE = "base"
FACTOR = "epochs_factor"
SETTINGS_NAME, CPU_NAME = "settings.toml", "cpu_seconds.json"
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
ENDS = ("0-2", "15-19")
"""The age bands whose errors are shown: the ends, where models are drawn to the middle."""


def settings_of(lever: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a lever: those of the base, changed by it; its epochs are a multiple of the base's."""
    own = {name: value for name, value in lever.items() if name != FACTOR}
    return base | {"epochs": max(1, round(base["epochs"] * lever.get(FACTOR, 1.0)))} | own


def is_finished(folder: Path) -> bool:
    """Return whether the training of a lever has validated its last epoch."""
    run = folder / "run"
    if not (run / METRICS_NAME).exists():
        return False
    epochs = tomllib.loads((folder / SETTINGS_NAME).read_text())["epochs"]
    return any("val_mae_months" in line and line["epoch"] >= epochs for line in read_metrics(run / METRICS_NAME))


def train(folder: Path, shards: str, settings: dict[str, Any]) -> None:
    """Train with these settings, or continue the training; do nothing if it is finished."""
    folder.mkdir(parents=True, exist_ok=True)
    path, wanted = folder / SETTINGS_NAME, settings_as_toml(settings)
    if path.exists() and path.read_bytes() != wanted:
        raise SystemExit(f"{folder}: was trained with other settings; delete it, or use another --runs")
    path.write_bytes(wanted)
    if is_finished(folder):
        return
    before = _children_seconds()
    command = [sys.executable, "-m", "wds_bone.train", "--config", str(path), "--train", shards]
    code = run_until_stopped([*command, "--out", str(folder / "run")])
    _add_cpu_seconds(folder / CPU_NAME, _children_seconds() - before)
    if code:
        raise SystemExit(f"{folder}: the training ended with exit code {code}; the same command continues it")


def run_until_stopped(command: list[str]) -> int:
    """Run a command to its end, pass signals on to it, and return its exit code, which is never 0 after a signal."""
    received: list[int] = []
    started: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        if started and not received:
            started[0].send_signal(number)
        received.append(number)

    handled = [number for number in STOPPING if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, pass_on) for number in handled}
    # `timeout` and terminals signal a whole group, and a second signal would end the training before it has saved.
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        if received:  # before there was a process to pass it on to
            process.send_signal(received[0])
        started.append(process)
        code = process.wait()
    for number, handler in previous.items():
        signal.signal(number, handler)
    return code or (128 + received[0] if received else 0)


def measure(folder: Path) -> dict[str, Any]:
    """Return the errors of a finished lever and how long it took."""
    run = folder / "run"
    summary = summarize(read_predictions(run / PREDICTIONS_NAME))
    chosen = {**summary["gender"], **{band: summary["age_band_years"].get(band) for band in ENDS}}
    names = ("mae_months", "bias_months")
    return {
        **{name: summary["all"][name] for name in (*names, "mae_interval_months")},
        "groups": {group: {name: numbers[name] for name in names} for group, numbers in chosen.items() if numbers},
        "minutes": read_metrics(run / METRICS_NAME)[-1]["elapsed_seconds"] / 60,
        "cpu_minutes": json.loads((folder / CPU_NAME).read_text()) / 60,
    }


def collect(runs: Path, levers: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the measurements of the levers whose runs are finished, and their differences from the base."""
    finished = [name for name in levers if is_finished(runs / name)]
    rows = {name: {"settings": levers[name], **measure(runs / name)} for name in finished}
    if BASE in rows:
        base = read_predictions(runs / BASE / "run" / PREDICTIONS_NAME)
        for name, row in rows.items():
            difference = compare(read_predictions(runs / name / "run" / PREDICTIONS_NAME), base)
            row |= {key: difference[key] for key in ("mae_difference_months", "mae_difference_interval_months")}
    return rows


def format_table(rows: dict[str, dict[str, Any]]) -> str:
    """Return the rows as a Markdown table, the best lever first."""
    heads = ["lever", "MAE", "minus base (95 % interval)", "bias", "F", "M", *ENDS, "minutes", "of CPU"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, row in sorted(rows.items(), key=lambda item: item[1]["mae_months"]):
        low, high = row.get("mae_difference_interval_months") or (float("nan"),) * 2
        groups = [row["groups"].get(group) for group in ("F", "M", *ENDS)]
        cells = [
            name,
            f"{row['mae_months']:.2f}",
            f"{row.get('mae_difference_months', float('nan')):+.2f} ({low:+.2f} to {high:+.2f})",
            f"{row['bias_months']:+.2f}",
            *("" if group is None else f"{group['mae_months']:.1f} ({group['bias_months']:+.1f})" for group in groups),
            f"{row['minutes']:.1f}",
            f"{row['cpu_minutes']:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def rank_correlation(rows: dict[str, dict[str, Any]], others: dict[str, dict[str, Any]]) -> float:
    """Return Spearman's rank correlation of the errors of the levers that are in both."""
    shared = sorted(rows.keys() & others.keys())
    errors = np.array([[row[name]["mae_months"] for name in shared] for row in (rows, others)])
    return float(np.corrcoef(errors.argsort(1).argsort(1))[0, 1])


def parse_arguments(names: Collection[str]) -> argparse.Namespace:
    """Return the options of this program; `names` are those of the levers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", required=True, metavar="PATH", help="a set with the splits train and val")
    parser.add_argument("--runs", type=Path, default=Path("runs/levers"), metavar="FOLDER")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=names, help="train these levers (default: all)")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings that change the base")
    parser.add_argument("--name", default="levers", metavar="NAME", help="name of the result")
    parser.add_argument("--against", type=Path, metavar="FILE", help="the result of another schedule")
    return parser.parse_args()


def main() -> None:
    """Train what is not trained yet, and print the table after each run."""
    planned = tomllib.loads(LEVERS.read_text())
    args = parse_arguments(planned["levers"])
    base = planned["base"] | parse_assignments(TrainConfig, args.set)
    levers = {name: settings_of(lever, base) for name, lever in planned["levers"].items()}
    for name in args.only or levers:
        train(args.runs / name, args.shards, levers[name])
        rows = collect(args.runs, levers)
        path = save_result(args.name, {"base": base, "levers": rows})
    print(f"{format_table(rows)}\n\n{path}")
    if args.against:
        others = json.loads(args.against.read_text())["levers"]
        print(f"rank correlation with {args.against}: {rank_correlation(rows, others):.2f}")


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _add_cpu_seconds(path: Path, seconds: float) -> None:
    earlier = json.loads(path.read_text()) if path.exists() else 0.0
    path.write_text(json.dumps(earlier + seconds))


if __name__ == "__main__":
    main()
