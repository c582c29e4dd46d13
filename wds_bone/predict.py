"""Predict the ages of film files: `wds-bone predict`.

In: one or more checkpoints; films of children of one gender, or a table of genders and folders of films.
Out: a table as CSV or JSON Lines, in a file or on standard output, with one row per film that could be predicted.
Invariant: a film that cannot be predicted is reported and has no row; the others are still predicted. A file is
complete or not written.
"""

if __name__ == "__main__":
    from wds_bone.__main__ import start

    start("predict")

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import torch

from wds_bone.command_line import EXIT_SOME_FAILED, parse_config, run_command
from wds_bone.commands import PREDICT
from wds_bone.distributed.hardware import default_threads, pick_device
from wds_bone.distributed.memory import memory_errors
from wds_bone.errors import WdsBoneError
from wds_bone.failures import Failures
from wds_bone.inference.ensemble import Ensemble, load_ensemble
from wds_bone.inference.films import BATCH_SIZE, predict_films
from wds_bone.inference.inputs import Input, Inputs, named_inputs, table_inputs
from wds_bone.inference.rows import FAILED_NAME, PredictedFilm, row_lines, write_failures
from wds_bone.inference.settings import PredictConfig, refuse_unusable_out
from wds_bone.progress import print_above, progress
from wds_bone.storage.durable import storage_errors, write_atomically
from wds_bone.storage.machine import check_count
from wds_bone.stream.settings import available_cores


def main(argv: Sequence[str] | None = None) -> int:
    """Predict, and return the exit code: 0, 1 if some films could not be predicted, 2 after another error."""
    parse = partial(parse_config, PredictConfig, argv, PREDICT)
    return run_command(PREDICT, parse=parse, run=lambda config, _: run_prediction(config))


def run_prediction(config: PredictConfig) -> int:
    """Write the table, and on standard error the errors of films that cannot be predicted; return the exit code.

    Raises:
        ConfigError: if the device is not available, or `--out` cannot be used.
        LabelError: if the table of genders is refused.
        ImageError: if no row of the table has a film, or one of its folders cannot be read.
        CheckpointError: if a checkpoint cannot be loaded.
        WdsBoneError: if the device has too little memory, a prediction is not finite, or the file cannot be written.
    """
    refuse_unusable_out(config)
    check_count("--threads", config.threads, cores=available_cores())
    device, inputs = pick_device(config.device), _find_inputs(config)
    failures = Failures()
    for error in inputs.errors:
        failures.add(error)
    failures.print_counts()
    if inputs.remark:
        print_above(f"not predicted: {inputs.remark}")
    do = "close other programs" if device.type == "cpu" else "use --device cpu"
    with memory_errors(device, got=f"{BATCH_SIZE} images at a time", do=do):
        ensemble = load_ensemble(config.checkpoint, device=device, views="tta" if config.tta else "mirror")
        if warning := ensemble.interval_warning():
            print_above(warning)
        predicted = _predict(config, inputs.films, ensemble, device=device, failures=failures)
        _write_lines(config.out, row_lines(predicted, config.row_format))
    failures.print_counts()
    num_films = len(inputs.films) + len(inputs.errors)
    _print_summary(config.out, failures, num_predicted=num_films - len(failures.errors))
    return EXIT_SOME_FAILED if failures.errors else 0


def _print_summary(out: Path | None, failures: Failures, *, num_predicted: int) -> None:
    """Print how many films were predicted and failed, and where the failed ones are listed."""
    num_failed = len(failures.errors)
    if out is not None:
        listed = write_failures(Path(f"{out}.{FAILED_NAME}"), failures.errors)
        print(f"{out}: {num_predicted:,} predicted, {num_failed:,} failed{listed}")  # noqa: T201
    elif failures.num_hidden:
        print_above(f"{num_failed:,} failed; with --out FILE, all of them are listed in FILE.{FAILED_NAME}")
    if not num_predicted:
        print_above(f"none of the {num_failed:,} films could be predicted")


def _find_inputs(config: PredictConfig) -> Inputs:
    if config.table is not None:
        return table_inputs(config.table, config.images, config.label_columns)
    return named_inputs(config.films, sys.stdin, gender=config.gender_of_all)


def _predict(
    config: PredictConfig,
    films: Sequence[Input],
    ensemble: Ensemble,
    *,
    device: torch.device,
    failures: Failures,
) -> Iterator[PredictedFilm]:
    """Yield the predictions in order; add the errors of films that cannot be read to `failures`."""
    paths, genders = [film.path for film in films], [film.gender for film in films]
    threads = default_threads(device) if config.threads is None else config.threads
    outcomes = predict_films(ensemble, paths, genders, device=device, threads=threads)
    with _progress(config, len(films)) as show:
        for number, (film, outcome) in enumerate(zip(films, outcomes, strict=True), 1):
            if isinstance(outcome, WdsBoneError):
                failures.add(outcome)
            else:
                yield PredictedFilm(film, outcome.months, outcome.interval, ensemble.sha256)
            show(number)


def _progress(config: PredictConfig, num_films: int) -> AbstractContextManager[Callable[[int], None]]:
    """Show the progress on a terminal, unless the rows appear there."""
    if sys.stderr.isatty() and not (config.out is None and sys.stdout.isatty()):
        return progress(num_films, "film", label="predict")
    return nullcontext(lambda _: None)


def _write_lines(out: Path | None, lines: Iterable[str]) -> None:
    if out is None:
        for line in lines:
            sys.stdout.write(line)
        return
    with storage_errors(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, lambda file: file.writelines(line.encode(errors="backslashreplace") for line in lines))
