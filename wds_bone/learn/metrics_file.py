"""Read `metrics.jsonl`, and remove from it what a resumed run will write again.

In: the file, and the progress of a run.
Out: its lines.
Invariant: a damaged line is an error, and the file is not changed.
"""

import json
from pathlib import Path
from typing import Any

from wds_bone.errors import CheckpointError
from wds_bone.learn.run import Progress
from wds_bone.storage.durable import storage_errors, write_bytes_atomically

Line = dict[str, Any]
METRICS_NAME = "metrics.jsonl"


def read_metrics(path: Path) -> list[Line]:
    """Return the lines of a file that this process is writing, in their order, without an incomplete last one.

    Raises:
        OSError: if it cannot be read.
    """
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def truncate_metrics(path: Path, progress: Progress) -> None:
    """Remove the lines of steps and validations after `progress`, and an incomplete last line.

    Raises:
        CheckpointError: if a line is damaged.
        WdsBoneError: if the file cannot be written.
    """
    if not path.exists():
        return
    with storage_errors(path):
        lines = path.read_bytes().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith(b"\n")]
    kept = [line for number, line in enumerate(whole, 1) if _is_within(line, progress, where=f"{path}: line {number}")]
    write_bytes_atomically(path, b"".join(kept))


def _is_within(line: bytes, progress: Progress, *, where: str) -> bool:
    """Return whether `progress` includes the step or the validation of a line."""
    try:
        numbers = json.loads(line)
        validated = "val_mae_months" not in numbers or int(numbers["epoch"]) <= progress.validated_epochs
        return bool(numbers["step"] <= progress.step and validated)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise CheckpointError(
            f"{where} is damaged",
            expected="the metrics of a step or a validation",
            got=f"{type(error).__name__}: {error}",
            do="fix or delete that line, then run the command again",
        ) from error
