"""Save a run between two steps, and restore it.

In: a run with its progress.
Out: `last.pt`, from which the same run continues; `best.pt` and `predictions.csv`, the model to use and what it
predicted for the validation samples.
Invariant: `last.pt` holds all that a step reads and an earlier step wrote; the rest depends on the settings only.
"""

import hashlib
from dataclasses import asdict
from typing import Any

from wds_bone.distributed.resources import Clock
from wds_bone.errors import CheckpointError
from wds_bone.inference.predictions import PREDICTIONS_NAME, Predictions, write_predictions
from wds_bone.inference.trained_on import list_training_sets
from wds_bone.learn.learner import learner_state, restore_learner
from wds_bone.learn.run import Progress, Run
from wds_bone.model.checkpoint import BEST_NAME, LAST_NAME, for_inference, restoring, save_checkpoint


def save_last(run: Run, progress: Progress) -> None:
    """Write everything that the run needs to continue to `last.pt`; only the first rank writes.

    Raises:
        WdsBoneError: if the file cannot be written; the older one is kept.
    """
    if run.ranks.is_first:
        save_checkpoint(run.config.out / LAST_NAME, _contents(run, progress))


def save_best(run: Run, progress: Progress, predictions: Predictions) -> None:
    """Write `predictions.csv`, then the model that made them to `best.pt`; only the first rank writes.

    A kill between the two leaves the predictions of the newer model next to the older one. `predictions_sha256` in
    `best.pt` shows that they do not belong together; the resumed run validates again, and writes both again.

    Raises:
        WdsBoneError: if a file cannot be written; the older one is kept.
    """
    if not run.ranks.is_first:
        return
    path = run.config.out / PREDICTIONS_NAME
    write_predictions(path, predictions)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    contents = for_inference(_contents(run, progress)) | {"predictions_sha256": digest}
    save_checkpoint(run.config.out / BEST_NAME, contents)


def _contents(run: Run, progress: Progress) -> dict[str, Any]:
    return {
        **run.provenance,
        **learner_state(run.learner),
        "progress": asdict(progress),
        "stream": run.train_stream.state_dict(),
        "clock": {"elapsed_seconds": run.clock.elapsed_seconds()},
        "calibration": None,
        "trained_on": run.trained_on,
    }


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
    run.inherited = list_training_sets(contents["trained_on"])
    with restoring(run.config.model):
        restore_learner(run.learner, contents)
        run.clock = Clock(contents["clock"]["elapsed_seconds"])
        return Progress(**contents["progress"])
