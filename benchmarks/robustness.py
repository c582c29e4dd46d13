"""What do changes that scanners, viewers and file formats make to films cost in months?

Command:   python -m benchmarks.robustness --checkpoint FILE... --shards PATH [--split val] [--limit N] [--json FILE]
           [--by-contrast]
Compared:  the errors of a checkpoint, or of the mean of several, on films as they are stored and after each of the
           changes in `benchmarks/perturbations.py`.
Method:    the mean absolute error and the bias (predicted minus true age), and the difference of the error from that on
           the films as stored: the mean of the paired differences and its 95 % bootstrap interval. A change passes if
           it costs at most 0.5 months and moves the bias by at most 1.5 months. `--by-contrast` adds the errors of
           films of low, ordinary and high contrast: the gray values between the dark tone of a film and the bright one
           of its hand, which `model/exposure.py` defines.
Machine:   CPU.
Result:    one table or two, and the numbers of the first as JSON; EXPERIMENTS.md draws the conclusion.
"""

import argparse
import json
from collections.abc import Callable
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.perturbations import PERTURBATIONS
from wds_bone import BoneAgeStream
from wds_bone.inference.bootstrap import bootstrap_interval
from wds_bone.inference.ensemble import Ensemble, load_ensemble
from wds_bone.model import exposure

AS_STORED = "as stored"
CONTRAST_QUANTILES = (0.1, 0.25, 0.5, 0.75)
"""Where the films are divided into groups."""
MAX_COST_MONTHS, MAX_BIAS_CHANGE_MONTHS = 0.5, 1.5


def errors_months(
    ensemble: Ensemble, stream: BoneAgeStream, change: Callable[[Tensor], Tensor], *, num_batches: int | None
) -> NDArray[np.float64]:
    """Return predicted minus true age of the films of a stream, in its order, float64 (n,)."""
    stream.set_epoch(0)
    errors = [
        (ensemble.predict_members(change(batch.image), batch.gender).mean(0) - batch.age_months)[batch.weight > 0]
        for batch in islice(stream, num_batches)
    ]
    return np.concatenate([error.double().numpy() for error in errors])


def contrasts(stream: BoneAgeStream, *, num_batches: int | None) -> NDArray[np.float64]:
    """Return the gray values from the dark tone of each film to the bright tone of its hand, float64 (n,), 0 to 255."""
    stream.set_epoch(0)
    found = [contrasts_of(batch.image)[batch.weight > 0] for batch in islice(stream, num_batches)]
    return np.concatenate([values.double().numpy() for values in found])


def contrasts_of(image: Tensor) -> Tensor:
    """Return the contrasts of images, float32 (B,).

    Args:
        image: uint8 (B, 1, H, W).
    """
    _, film, hand = exposure.count_positive(image, exposure.find_film(image))
    grays = torch.arange(float(exposure.NUM_GRAYS)).expand(len(image), -1)
    dark = exposure.quantile_of(grays, film, exposure.DARK_QUANTILE)
    return (exposure.quantile_of(grays, hand, exposure.BRIGHT_QUANTILE) - dark)[:, 0]


def summarize(errors: NDArray[np.float64], reference: NDArray[np.float64]) -> dict[str, Any]:
    """Return the numbers of a row of the table.

    Args:
        errors: predicted minus true age after a change, (n,).
        reference: the same for the films as stored.
    """
    costs = np.abs(errors) - np.abs(reference)
    cost, bias_change = float(costs.mean()), float(np.mean(errors - reference))
    return {
        "mae_months": float(np.abs(errors).mean()),
        "bias_months": float(errors.mean()),
        "cost_months": cost,
        "cost_interval_months": list(bootstrap_interval(costs)),
        "bias_change_months": bias_change,
        "passes": cost <= MAX_COST_MONTHS and abs(bias_change) <= MAX_BIAS_CHANGE_MONTHS,
    }


def format_table(rows: dict[str, dict[str, Any]]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| films | MAE | bias | cost (95 % interval) | change of bias | |", "|---|---|---|---|---|---|"]
    for name, row in rows.items():
        low, high = row["cost_interval_months"]
        cost = f"{row['cost_months']:+.2f} ({low:+.2f} to {high:+.2f})"
        numbers = f"{row['mae_months']:.2f} | {row['bias_months']:+.2f} | {cost} | {row['bias_change_months']:+.2f}"
        lines.append(f"| {name} | {numbers} | {'' if row['passes'] else 'fails'} |")
    return "\n".join(lines)


def format_groups(errors: dict[str, NDArray[np.float64]], contrast: NDArray[np.float64]) -> str:
    """Return the mean errors of groups of films as a Markdown table.

    Args:
        errors: predicted minus true age, (n,), for each change.
        contrast: the contrasts of the films, (n,).
    """
    lines = [f"| gray values | films | {' | '.join(errors)} |", "|---" * (2 + len(errors)) + "|"]
    bounds = np.unique(np.round(np.quantile(contrast, CONTRAST_QUANTILES)))
    for low, high in pairwise([-np.inf, *bounds, np.inf]):
        group = (low <= contrast) & (contrast < high)
        if group.any():
            maes = " | ".join(f"{np.abs(values[group]).mean():.2f}" for values in errors.values())
            lines.append(f"| {contrast[group].min():.0f} to {contrast[group].max():.0f} | {group.sum()} | {maes} |")
    return "\n".join(lines)


def parse_arguments() -> argparse.Namespace:
    """Return the options of this program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", nargs="+", required=True, metavar="FILE")
    parser.add_argument("--shards", required=True, metavar="PATH")
    parser.add_argument("--split", default="val", metavar="NAME")
    parser.add_argument("--limit", type=int, metavar="N", help="batches of 64 films to use (default: all)")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=list(PERTURBATIONS), default=list(PERTURBATIONS))
    parser.add_argument("--by-contrast", action="store_true", help="print the errors by the contrast of the films, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers to this file")
    return parser.parse_args()


def main() -> None:
    """Print the table."""
    args = parse_arguments()
    ensemble = load_ensemble(args.checkpoint, device="cpu")
    with BoneAgeStream(args.shards, split=args.split, batch_size=64, shuffle=False) as stream:
        changes = {AS_STORED: torch.clone} | {name: PERTURBATIONS[name] for name in args.only}
        errors = {
            name: errors_months(ensemble, stream, change, num_batches=args.limit) for name, change in changes.items()
        }
        contrast = contrasts(stream, num_batches=args.limit) if args.by_contrast else None
    rows = {name: summarize(values, errors[AS_STORED]) for name, values in errors.items()}
    num_films = len(errors[AS_STORED])
    print(f"{num_films:,} films, months\n\n{format_table(rows)}")
    if contrast is not None:
        print(f"\n{format_groups(errors, contrast)}")
    if args.json:
        result = {"checkpoints": args.checkpoint, "num_films": num_films, "rows": rows}
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
