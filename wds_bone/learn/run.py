"""What a training run is: the things that stay, and how far it has come.

In come settings and opened streams, out go values that the loop and the snapshots share. The invariant: `Progress` and
the contents of the learner are all that a step changes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wds_bone.distributed.ranks import Ranks
from wds_bone.learn.learner import Learner
from wds_bone.model.augment import Ranges
from wds_bone.stream.stream import BoneAgeStream


@dataclass(frozen=True)
class Recipe:
    """What a step needs beside the learner and the batch.

    Attributes:
        num_steps: of the whole run, which the schedule spans.
        batch_size: samples per step, over all ranks.
        accumulate: parts in which a rank computes its samples of a step, one after another, to save memory.
        peak_rate: the highest learning rate.
        ema: the longest decay of the average.
        seed: of augmentation and of the model's random layers.
        ranges: of the augmentation.
    """

    num_steps: int
    batch_size: int
    accumulate: int
    peak_rate: float
    ema: float
    seed: int
    ranges: Ranges


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes:
        step: steps made.
        validated_epochs: whole epochs that had been shown when the model was last validated.
        best_mae_months: lowest validation error so far, None before the first.
        best_epoch: how many epochs had been shown then.
    """

    step: int = 0
    validated_epochs: int = 0
    best_mae_months: float | None = None
    best_epoch: int | None = None


@dataclass(frozen=True)
class Run:
    """What stays the same while a run goes on.

    Attributes:
        folder: where checkpoints and metrics go; of the first rank.
        ranks: the processes that work on it.
        learner: what learns.
        recipe: how.
        train_stream: shuffled, standing where the progress does.
        val_stream: not shuffled.
        last_step: where this launch stops: the recipe's last step, or sooner.
        patience: epochs without a better validation after which the run is over; None goes on to the last step.
        log_every: steps between two lines of metrics.
        origin: what every checkpoint says beside the state: config, versions, digests.
    """

    folder: Path
    ranks: Ranks
    learner: Learner
    recipe: Recipe
    train_stream: BoneAgeStream
    val_stream: BoneAgeStream
    last_step: int
    patience: int | None
    log_every: int
    origin: dict[str, Any]

    def shown_epochs(self, step: int) -> int:
        """Return how many whole epochs the first `step` steps have shown."""
        return step * self.recipe.batch_size // self.train_stream.num_samples

    def is_over(self, progress: Progress) -> bool:
        """Return whether nothing is left to do: all steps are made, or patience is at its end."""
        best_epoch = progress.validated_epochs if progress.best_epoch is None else progress.best_epoch
        waited = progress.validated_epochs - best_epoch
        return progress.step >= self.recipe.num_steps or (self.patience is not None and waited >= self.patience)
