"""`python -m tests.recording`: the training command, which writes down what each step of each rank is given, or fails.

With `WDS_BONE_FAULT` rank 1 is given an age that is no number in its third step, or raises an error that is a bug.
"""

import os
import sys
from pathlib import Path
from typing import Any

from wds_bone.learn import loop
from wds_bone.learn.losses import PendingLoss
from wds_bone.learn.settings import Recipe
from wds_bone.stream.batch import Batch
from wds_bone.train import main

FOLDER, FAULT = "WDS_BONE_RECORDING", "WDS_BONE_FAULT"
_learn = loop.train_step


def train_step_recorded(learner: Any, batch: Batch, *, step: int, recipe: Recipe, ranks: Any) -> PendingLoss:
    fault = os.environ.get(FAULT) if (step, ranks.rank) == (2, 1) else None
    if fault == "not finite":
        batch.age_months[1] = float("nan")
    if fault == "bug":
        raise RuntimeError("a bug in rank 1")
    line = f"{step} {ranks.rank} {' '.join(batch.key)}\n"
    with (Path(os.environ[FOLDER]) / f"rank-{ranks.rank}.txt").open("a") as file:
        file.write(line)
    return _learn(learner, batch, step=step, recipe=recipe, ranks=ranks)


def keys_by_step(folder: Path) -> dict[int, list[str]]:
    """Return the keys of each step over all ranks, in their order, of the last time that it was made."""
    lines = [line.split() for path in sorted(folder.glob("rank-*.txt")) for line in path.read_text().splitlines()]
    rows = {(int(step), int(rank)): keys for step, rank, *keys in lines}
    steps = sorted({step for step, _ in rows})
    return {step: [key for part in sorted(rows) if part[0] == step for key in rows[part]] for step in steps}


if __name__ == "__main__":
    loop.train_step = train_step_recorded
    sys.exit(main())
