"""Add intervals to a checkpoint: `wds-bone calibrate`.

In: a checkpoint, and samples that it was not trained on, or the runs of the cross-validation that it is from.
Out: a copy of the checkpoint with the calibration.
Invariant: the intervals are never fitted on training samples; the checkpoint itself is not changed.
"""

if __name__ == "__main__":
    from wds_bone.__main__ import start

    start("calibrate")

import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from wds_bone.command_line import EXIT_SOME_FAILED, parse_config, run_command
from wds_bone.commands import CALIBRATE
from wds_bone.distributed.hardware import pick_device
from wds_bone.distributed.memory import memory_errors
from wds_bone.distributed.ranks import Ranks
from wds_bone.errors import ConfigError, WdsBoneError
from wds_bone.inference.calibration import Calibration
from wds_bone.inference.ensemble import Ensemble, Member, without_weights
from wds_bone.inference.predictions import Predictions
from wds_bone.inference.predictor import restore_predictor
from wds_bone.inference.rows import FAILED_NAME, write_failures
from wds_bone.inference.trained_on import describe_samples, find_trained_on, trained_on_warning
from wds_bone.interrupt import Interruption
from wds_bone.model.checkpoint import BEST_NAME, for_inference, load_checkpoint, save_checkpoint
from wds_bone.objects.access import allow_redirects_to
from wds_bone.report.calibration import few_samples_warnings, format_calibration
from wds_bone.report.calibration_settings import CalibrateConfig
from wds_bone.report.pooling import Fold, pool_predictions, read_folds
from wds_bone.report.samples import predict_samples
from wds_bone.storage.machine import check_count
from wds_bone.stream.settings import available_cores


def main(argv: Sequence[str] | None = None) -> int:
    """Calibrate, and return the exit code: 0, 1 if some films failed, 2 after another error, 128 + n after a signal."""
    parse = partial(parse_config, CalibrateConfig, argv, CALIBRATE)
    return run_command(CALIBRATE, parse=parse, run=run_calibration)


def run_calibration(config: CalibrateConfig, interruption: Interruption) -> int:
    """Predict the samples or read their predictions, fit the intervals, write the copy, and print the intervals.

    Returns:
        The exit code: 1 if some films could not be predicted.

    Raises:
        Interrupted: after a signal; nothing is written.
        WdsBoneError: if `out` exists, the samples are unfit for this checkpoint, or a file cannot be written.
    """
    allow_redirects_to(config.allow_host or ())
    check_count("--threads", config.threads, cores=available_cores())
    _refuse_unusable(config.out)
    contents = for_inference(load_checkpoint(config.checkpoint))
    predictions, failed = _held_out_predictions(config, contents, interruption)
    calibration = Calibration.fit(predictions, config.level, correct=config.correct)
    columns = predictions.key, predictions.gender, predictions.age_months
    samples = describe_samples(*columns, salt=calibration.samples_sha256)
    save_checkpoint(config.out, contents | {"calibration": calibration.to_json(), "calibrated_on": samples})
    for warning in few_samples_warnings(calibration):
        print(warning, file=sys.stderr)  # noqa: T201
    print(f"{format_calibration(calibration)}\n{config.out}")  # noqa: T201
    if listed := write_failures(Path(f"{config.out}.{FAILED_NAME}"), failed):
        print(f"{len(failed):,} rows of the label table were not used{listed}", file=sys.stderr)  # noqa: T201
    return EXIT_SOME_FAILED if failed else 0


def _held_out_predictions(
    config: CalibrateConfig, contents: dict[str, Any], interruption: Interruption
) -> tuple[Predictions, Sequence[WdsBoneError]]:
    """Return predictions for samples that the checkpoint was not trained on, and the errors of films that failed."""
    if config.runs:
        folds = read_folds(config.runs)
        _refuse_other_run(contents, folds, where=config.checkpoint)
        return pool_predictions(folds), ()
    ranks = Ranks(device=pick_device(config.device))
    with memory_errors(ranks.device, **config.batching.memory_setting(ranks.device)):
        predictor = restore_predictor(contents, device=ranks.device)
        member = Member(predictor, path=str(config.checkpoint), contents=without_weights(contents))
    labeled = predict_samples(
        Ensemble((member,)), config.samples, batching=config.batching, ranks=ranks, interruption=interruption
    )
    if labeled is None:
        interruption.check()
    assert labeled is not None
    _refuse_training_samples(contents, labeled.predictions, where=config.checkpoint)
    return labeled.predictions, labeled.failed


def _refuse_unusable(path: Path) -> None:
    """Refuse to replace a file, which may be the best model of a run, and to predict before the write fails."""
    if os.path.lexists(path):
        raise ConfigError(f"--out {path}: exists", expected="a new file", do="move it, or use another --out")
    if not path.parent.is_dir():
        raise ConfigError(f"--out {path}: its folder does not exist", do="create the folder, or use another --out")


def _refuse_other_run(contents: dict[str, Any], folds: Sequence[Fold], *, where: Path) -> None:
    """Check that the checkpoint is the best one of a fold: only then, the predictions of all folds are like its own."""
    if contents.get("predictions_sha256") not in {fold.provenance["predictions_sha256"] for fold in folds}:
        raise ConfigError(
            f"{where}: is not the best.pt of one of these runs",
            expected="the model that made the predictions.csv of a run",
            got="another model" if "predictions_sha256" in contents else "a checkpoint without held-out predictions",
            do=f"use --checkpoint {folds[0].folder / BEST_NAME}, or calibrate this one with --shards or --labels",
        )


def _refuse_training_samples(contents: dict[str, Any], predictions: Predictions, *, where: Path) -> None:
    """Refuse training samples, whose errors are smaller than those of other samples; warn if they cannot be known."""
    columns = predictions.key, predictions.gender, predictions.age_months
    found = find_trained_on(contents, *columns)
    if found is None:
        print(trained_on_warning(contents, *columns, where=str(where)), file=sys.stderr)  # noqa: T201
    elif found.any():
        first = predictions.key[int(found.argmax())]
        raise ConfigError(
            f"{where}: was trained on some of these samples",
            expected="samples that it was not trained on",
            got=f"{found.sum():,} of {len(found):,} with key, gender and age of a training sample, such as '{first}'",
            do="calibrate with other samples, or with the --runs of a cross-validation; if these are other films that "
            "have the same key, gender and age by chance, leave them out",
        )
