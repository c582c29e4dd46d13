"""Run `wds-bone train` as `python -m tests.recording`, and record the keys that each rank receives in each step.

With `WDS_BONE_FAULT`, rank 1 receives an age that is not a number in its third step, or raises an unexpected error.
"""

import os
import sys
from pathlib import Path
from typing import Any

from wds_bone.learn import loop
from wds_bone.learn.finite_check import PendingLoss
from wds_bone.learn.settings import Recipe
from wds_bone.stream.batch import Batch
from wds_bone.train import main

FOLDER, FAULT = "WDS_BONE_RECORDING", "WDS_BONE_FAULT"
_train_step = loop.train_step


def recorded_train_step(learner: Any, batch: Batch, *, step: int, recipe: Recipe, ranks: Any) -> PendingLoss:
    fault = os.environ.get(FAULT) if (step, ranks.rank) == (2, 1) else None
    if fault == "not finite":
        batch.age_months[1] = float("nan")
    if fault == "bug":
        raise RuntimeError("a bug in rank 1")
    line = f"{step} {ranks.rank} {' '.join(batch.key)}\n"
    with (Path(os.environ[FOLDER]) / f"rank-{ranks.rank}.txt").open("a") as file:
        file.write(line)
    return _train_step(learner, batch, step=step, recipe=recipe, ranks=ranks)


def keys_by_step(folder: Path) -> dict[int, list[str]]:
    """Return the keys of each step over all ranks, in order; of a repeated step, those of the last time."""
    lines = [line.split() for path in sorted(folder.glob("rank-*.txt")) for line in path.read_text().splitlines()]
    rows = {(int(step), int(rank)): keys for step, rank, *keys in lines}
    steps = sorted({step for step, _ in rows})
    return {step: [key for part in sorted(rows) if part[0] == step for key in rows[part]] for step in steps}


if __name__ == "__main__":
    loop.train_step = recorded_train_step
    sys.exit(main())
