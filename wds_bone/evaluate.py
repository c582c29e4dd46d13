"""Measure the errors of a model: `wds-bone evaluate`; with several processes: `torchrun ... -m wds_bone.evaluate`.

In: one or more checkpoints, and labeled samples in shards or as films; or the runs of a cross-validation.
Out: `predictions.csv`, figures and, last, `metrics.json`.
Invariant: the results are a function of (checkpoints, samples, genders given to the model), up to rounding, which
depends on the local batch size and the device.
"""

if __name__ == "__main__":
    from wds_bone.__main__ import start

    start("evaluate")

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from wds_bone.command_line import EXIT_SOME_FAILED, parse_config, run_command
from wds_bone.commands import EVALUATE
from wds_bone.distributed.hardware import pick_device
from wds_bone.distributed.launch import open_ranks, report_errors_once
from wds_bone.distributed.memory import memory_errors
from wds_bone.distributed.ranks import Ranks
from wds_bone.errors import WdsBoneError
from wds_bone.inference.ensemble import load_ensemble
from wds_bone.inference.rows import FAILED_NAME, write_failures
from wds_bone.interrupt import Interruption
from wds_bone.learn.folder import refuse_run_folder
from wds_bone.objects.access import allow_redirects_to
from wds_bone.paths import refuse_unusable_folder
from wds_bone.report.comparison import OtherEvaluation, compare, read_other_evaluation
from wds_bone.report.evaluation import (
    RESULT_NAMES,
    Evaluation,
    evaluation_of_ensemble,
    evaluation_of_folds,
    measure,
    write_evaluation,
)
from wds_bone.report.evaluation_text import format_evaluation
from wds_bone.report.pooling import read_folds
from wds_bone.report.samples import predict_samples
from wds_bone.report.settings import EvaluateConfig
from wds_bone.storage.lock import folder_lock
from wds_bone.storage.machine import check_count
from wds_bone.stream.settings import available_cores

TIMEOUT_SECONDS = 300.0


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate, and return the exit code: 0, 1 if some films failed, 2 after another error, 128 + n after signal n."""
    parse = partial(parse_config, EvaluateConfig, argv, EVALUATE)
    return run_command(EVALUATE, parse=lambda: report_errors_once(parse), run=run_evaluation)


def run_evaluation(config: EvaluateConfig, interruption: Interruption) -> int:
    """Predict, or read what was predicted; write and print the results; return the exit code.

    Raises:
        Interrupted: after a signal; no results are written.
        WdsBoneError: if settings, checkpoints and samples do not match, or a file cannot be written.
    """
    allow_redirects_to(config.allow_host or ())
    device = report_errors_once(lambda: pick_device(config.device))
    report_errors_once(lambda: check_count("--threads", config.threads, cores=available_cores()))
    with open_ranks(device, timeout_seconds=TIMEOUT_SECONDS, interruption=interruption) as ranks, ExitStack() as stack:
        if ranks.is_first:
            files = (FAILED_NAME, *RESULT_NAMES)
            refuse_unusable_folder(config.out, files=files)
            refuse_run_folder(config.out)
            stack.enter_context(folder_lock(config.out, "evaluate", files=files))
        against = None if config.against is None else read_other_evaluation(config.against)
        evaluation = _evaluate(config, ranks, interruption)
        if evaluation is not None and ranks.is_first:
            _write_results(config.out, evaluation, against)
    if evaluation is None:
        interruption.check()
    return EXIT_SOME_FAILED if evaluation and evaluation.failed else 0


def _evaluate(config: EvaluateConfig, ranks: Ranks, interruption: Interruption) -> Evaluation | None:
    """Return the predictions, all of them finite, on every rank; None after a signal."""
    if config.runs:
        return evaluation_of_folds(read_folds(config.runs))
    with memory_errors(ranks.device, **config.batching.memory_setting(ranks.device)):
        ensemble = load_ensemble(config.checkpoint, device=ranks.device, views="tta" if config.tta else "mirror")
    labeled = predict_samples(
        ensemble,
        config.samples,
        batching=config.batching,
        ranks=ranks,
        interruption=interruption,
        gender_input=config.gender,
    )
    return None if labeled is None else evaluation_of_ensemble(labeled, ensemble, gender_input=config.gender)


def _write_results(folder: Path, evaluation: Evaluation, against: OtherEvaluation | None) -> None:
    """Write the files, and print the table of errors and the paths of the results.

    Raises:
        WdsBoneError: if a file cannot be written; or, after everything else was written and printed, if `against` is
            no evaluation of these samples.
    """
    metrics, problem = measure(evaluation), None
    if against is not None:
        try:
            compared = compare(evaluation.predictions, against.predictions)
            metrics["against"] = {"predictions_sha256": against.sha256, **compared}
        except WdsBoneError as error:
            problem = error
    write_failures(folder / FAILED_NAME, evaluation.failed)
    paths = write_evaluation(folder, evaluation.predictions, metrics)
    for warning in evaluation.warnings:
        print(warning, file=sys.stderr)  # noqa: T201
    print(format_evaluation(metrics), *paths, sep="\n")  # noqa: T201
    if problem is not None:
        raise problem
