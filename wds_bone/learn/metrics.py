"""Compute the numbers in `metrics.jsonl`, and the errors in months that they are based on.

In: a run and its loss, or predictions and ages.
Out: one dictionary for each line, in plain JSON types.
Invariant: the same predictions give the same numbers with the same NumPy; the intervals come from a seeded bootstrap.
"""

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wds_bone.distributed.resources import Stopwatch, peak_bytes, resident_bytes
from wds_bone.inference.bootstrap import bootstrap_interval
from wds_bone.inference.predictions import Predictions
from wds_bone.learn.optimizer import learning_rate
from wds_bone.learn.run import Run

Months = NDArray[np.float32] | NDArray[np.float64]


def step_metrics(run: Run, step: int, *, loss: float, stopwatch: Stopwatch) -> dict[str, Any]:
    """Return the metrics of a step; rates are averages since the previous one, validation or save."""
    steps_per_second, wait_fraction = stopwatch.lap()
    recipe, device = run.recipe, run.ranks.device
    return {
        **_counters(run, step),
        "loss": loss,
        "lr": learning_rate(step - 1, num_steps=recipe.num_steps, peak=recipe.peak_rate, warmup=recipe.config.warmup),
        "images_per_second": steps_per_second * recipe.global_batch_size,
        "wait_fraction": wait_fraction,
        "rss_bytes": resident_bytes(),
        **transfer_metrics(run),
        **({"device_peak_bytes": peak_bytes(device)} if device.type == "cuda" else {}),
    }


def validation_metrics(run: Run, step: int, predictions: Predictions) -> dict[str, Any]:
    """Return the metrics of a validation, including the error of the constant predictor."""
    errors_months = absolute_errors(predictions.predicted_months, predictions.age_months)
    low, high = bootstrap_interval(errors_months)
    return {
        **_counters(run, step),
        "val_mae_months": float(errors_months.mean()),
        "val_mae_low_months": low,
        "val_mae_high_months": high,
        "constant_mae_months": constant_error(run.train_stream.ages_months, predictions.age_months),
        **transfer_metrics(run),
    }


def transfer_metrics(run: Run) -> dict[str, float]:
    """Return what both streams of this process have moved over the network in this launch; empty for local shards."""
    moved = [asdict(stream.transfer()) for stream in (run.train_stream, run.val_stream)]
    total = {name: sum(each[name] for each in moved) for name in moved[0]}
    return total if any(total.values()) else {}


def absolute_errors(predicted_months: Months, age_months: Months) -> NDArray[np.float64]:
    """Return the absolute errors in months, (n,), in double precision."""
    return np.abs(np.asarray(predicted_months, np.float64) - np.asarray(age_months, np.float64))


def constant_error(train_age_months: Months, age_months: Months) -> float:
    """Return the MAE of the constant predictor, which always predicts the median of the training ages."""
    return float(np.mean(np.abs(age_months.astype(np.float64) - np.median(train_age_months))))


def median_ages(age_months: Months, genders: NDArray[np.uint8]) -> dict[str, float]:
    """Return the median age in months of "all" and of each gender, "F" and "M", that occurs (1 is male)."""
    groups = {"all": genders >= 0, "F": genders == 0, "M": genders == 1}
    return {name: float(np.median(age_months[members])) for name, members in groups.items() if members.any()}


def _counters(run: Run, step: int) -> dict[str, Any]:
    samples = step * run.recipe.global_batch_size
    return {
        "step": step,
        "epoch": samples / run.train_stream.num_samples,
        "samples": samples,
        "elapsed_seconds": run.clock.elapsed_seconds(),
    }
