"""Define a training run: what stays the same, and how far it has come.

In: settings and opened streams.
Out: values that the loop and the snapshots share.
Invariant: `Progress` and the contents of the learner are everything that a step changes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from wds_bone.distributed.ranks import Ranks
from wds_bone.distributed.resources import Clock
from wds_bone.inference.trained_on import describe_training_samples
from wds_bone.learn.learner import Learner
from wds_bone.learn.settings import Recipe, TrainConfig
from wds_bone.stream.stream import BoneAgeStream


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes:
        step: number of steps taken.
        validated_epochs: number of whole epochs completed before the last validation.
        best_mae_months: the lowest validation MAE so far; None before the first validation.
        best_epoch: number of whole epochs completed before that validation.
    """

    step: int = 0
    validated_epochs: int = 0
    best_mae_months: float | None = None
    best_epoch: int | None = None


@dataclass
class Run:
    """One run, on one rank.

    Attributes:
        recipe: the parameters of every step.
        ranks: the ranks that share the work.
        learner: the model, its average and its optimizer.
        train_stream: the training samples, shuffled; its position matches the progress.
        val_stream: the validation samples, not shuffled.
        provenance: what every checkpoint records in addition to the state: config, versions, digests.
        inherited: what the initial weights were trained on, from `list_training_sets`.
        clock: measures how long the run has been trained for, over all launches.
    """

    recipe: Recipe
    ranks: Ranks
    learner: Learner
    train_stream: BoneAgeStream
    val_stream: BoneAgeStream
    provenance: dict[str, Any]
    inherited: Sequence[dict[str, Any]] = ()
    clock: Clock = field(default_factory=Clock)

    @property
    def config(self) -> TrainConfig:
        """The resolved settings."""
        return self.recipe.config

    @property
    def last_step(self) -> int:
        """The step after which this launch stops."""
        return min(self.recipe.num_steps, self.config.max_steps or self.recipe.num_steps)

    @cached_property
    def trained_on(self) -> dict[str, Any]:
        """What every checkpoint says about the training samples; takes 2 µs per sample the first time."""
        stream = self.train_stream
        return describe_training_samples(
            stream.keys(), stream.genders, stream.ages_months, salt=stream.order_digest, inherited=self.inherited
        )

    def epochs_shown(self, step: int) -> int:
        """Return how many whole epochs the first `step` steps cover."""
        return step * self.recipe.global_batch_size // self.train_stream.num_samples

    def is_validation_due(self, progress: Progress) -> bool:
        """Return whether an epoch has been completed since the last validation."""
        return self.epochs_shown(progress.step) > progress.validated_epochs

    def is_finished(self, progress: Progress) -> bool:
        """Return whether nothing is left to do: all steps are taken, or the patience is exhausted."""
        best_epoch = progress.validated_epochs if progress.best_epoch is None else progress.best_epoch
        num_worse, patience = progress.validated_epochs - best_epoch, self.config.patience
        return progress.step >= self.recipe.num_steps or (patience is not None and num_worse >= patience)

    def must_stop(self, progress: Progress) -> bool:
        """Return whether this launch must take no further step."""
        return progress.step >= self.last_step or self.is_finished(progress)
