"""Save a run between two steps, and restore it.

In: a run with its progress.
Out: a checkpoint from which the same run continues.
Invariant: the checkpoint holds all that a step reads and an earlier step wrote; the rest depends on the settings only.
"""

from dataclasses import asdict
from typing import Any

from wds_bone.distributed.resources import Clock
from wds_bone.errors import CheckpointError
from wds_bone.learn.learner import learner_state, restore_learner
from wds_bone.learn.run import Progress, Run
from wds_bone.model.checkpoint import restoring, save_checkpoint

LAST_NAME, BEST_NAME = "last.pt", "best.pt"


def save_snapshot(run: Run, progress: Progress, *, name: str) -> None:
    """Write the state of the run to the file `name` in its folder; only the first rank writes.

    Raises:
        WdsBoneError: if the file cannot be written; an older file of that name is kept.
    """
    if not run.ranks.is_first:
        return
    contents = {
        **run.provenance,
        **learner_state(run.learner),
        "progress": asdict(progress),
        "stream": run.train_stream.state_dict(),
        "clock": {"elapsed_seconds": run.clock.elapsed_seconds()},
    }
    save_checkpoint(run.config.out / name, contents)


def restore_snapshot(run: Run, contents: dict[str, Any]) -> Progress:
    """Set the run to the state in a checkpoint of the same settings, and return its progress.

    Raises:
        CheckpointError: if the training or validation shards have changed, or the checkpoint lacks a part of the state.
    """
    saved_digest = contents["order_digests"]["val"]
    if saved_digest != run.val_stream.order_digest:
        raise CheckpointError(
            "the validation shards differ from those of the checkpoint",
            expected=f"order digest {saved_digest} (saved)",
            got=f"order digest {run.val_stream.order_digest} (now)",
            do="resume with the same shards, or start a new run with another --out",
        )
    run.train_stream.load_state_dict(contents["stream"])
    with restoring(run.config.model):
        restore_learner(run.learner, contents)
        run.clock = Clock(contents["clock"]["elapsed_seconds"])
        return Progress(**contents["progress"])
