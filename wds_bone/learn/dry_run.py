"""Take a few steps of a run, and describe what the run would do and how long it would take.

In: a run that is about to start or resume.
Out: text.
Invariant: nothing is written.
"""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

from torch import Tensor
from torch.nn import Parameter

from wds_bone.distributed.resources import peak_bytes
from wds_bone.learn.finite_check import PendingLoss, check_losses
from wds_bone.learn.learner import predictor_of
from wds_bone.learn.loop import train_step
from wds_bone.learn.run import Progress, Run
from wds_bone.learn.settings import Recipe
from wds_bone.progress import format_duration
from wds_bone.stream.batch import Batch

MIN_STEPS, MAX_STEPS, TIMED_SECONDS = 3, 20, 2.0
"""The steps that are timed: enough of them to use up the batches that were loaded in advance."""


def dry_run(run: Run, progress: Progress) -> str:
    """Take a few steps, and return a description of them and of the run; the run cannot be used afterwards.

    All steps are taken on images of the full size, which need the most time and memory.

    Raises:
        WdsBoneError: if these steps of the run would fail.
    """
    stream, ranks, recipe = run.train_stream, run.ranks, _at_full_size(run.recipe)
    batches = stream.endless()
    batch = next(batches)
    pending = train_step(run.learner, batch, step=progress.step, recipe=recipe, ranks=ranks)
    loss = check_losses(deque([pending]), stream.step_keys)
    plan = _describe_plan(run, progress, batches)
    weights = list(run.learner.model.parameters())
    learned = [weight for weight in weights if weight.requires_grad]
    lines = {
        "batch": ", ".join(f"{name} {_describe(tensor)}" for name, tensor in batch.tensors().items()),
        "model": f"{_num_values(weights):,} weights, {_num_values(learned):,} of them trained",
        "first loss": f"{loss:.4f}",
        "memory": f"peak {peak_bytes(ranks.device) / 1e6:,.0f} MB on {ranks.device}",
        "processes": f"{ranks.world_size}, each with {recipe.local_batch_size} of {recipe.global_batch_size} samples "
        f"per step, in {_count(recipe.config.accumulate, 'part')}",
        "training": f"{stream.num_samples:,} samples in {_count(stream.num_shards, 'shard')}; every process reads all",
        "validation": f"{run.val_stream.num_samples:,} samples in {_count(run.val_stream.num_shards, 'shard')}, "
        f"{_count(len(run.val_stream), 'batch', 'batches')}",
        **plan,
    }
    width = max(map(len, lines))
    return "\n".join(f"{name:{width}}  {text}" for name, text in lines.items())


def _at_full_size(recipe: Recipe) -> Recipe:
    """Return the recipe without smaller images in its first steps."""
    return replace(recipe, config=replace(recipe.config, first_size=1.0))


def _describe_plan(run: Run, progress: Progress, batches: Iterator[Batch]) -> dict[str, str]:
    """Return what is left to do, and how long it would take, measured with the next batches."""
    step_seconds, validation_seconds = time_steps(run, batches, first=progress.step + 1), time_validation(run)
    num_steps, num_validations = run.last_step - progress.step, _count_validations(run, progress)
    seconds = num_steps * step_seconds + num_validations * validation_seconds
    bound, size = ("at most", " of full size") if run.config.first_size < 1.0 else ("about", "")
    return {
        "steps": f"{num_steps:,} of {run.last_step:,} left, {_count(num_validations, 'validation')}",
        "duration": f"{bound} {format_duration(seconds)}: {step_seconds:.2g} s per step{size}, "
        f"{validation_seconds:.2g} s per validation",
    }


def time_steps(run: Run, batches: Iterator[Batch], *, first: int) -> float:
    """Return the seconds per step on images of the full size, including the time to wait for batches.

    Args:
        run: the run, which must have taken a step of this size before.
        batches: its next batches.
        first: number of steps taken before.

    Raises:
        WdsBoneError: if a loss or gradient is not finite.
    """
    start, losses, num_steps = time.perf_counter(), deque[PendingLoss](), 0
    recipe, is_done = _at_full_size(run.recipe), False
    while not is_done:
        batch = next(batches)
        losses.append(train_step(run.learner, batch, step=first + num_steps, recipe=recipe, ranks=run.ranks))
        check_losses(losses, run.train_stream.step_keys, leave=1 if batch.image.is_cuda else 0)
        num_steps += 1
        is_late = num_steps >= MIN_STEPS and time.perf_counter() - start >= TIMED_SECONDS
        is_done = run.ranks.any(num_steps >= MAX_STEPS or is_late)
    check_losses(losses, run.train_stream.step_keys)
    return (time.perf_counter() - start) / num_steps


def time_validation(run: Run) -> float:
    """Return the seconds that a validation takes, estimated from its first batch, which is predicted twice."""
    predictor, batch = predictor_of(run.learner), run.val_stream[0]
    for _ in range(2):
        start = time.perf_counter()
        predictor.predict_months(batch.image, batch.gender).cpu()
    return (time.perf_counter() - start) * len(run.val_stream)


def _count_validations(run: Run, progress: Progress) -> int:
    """Return the number of validations that are left; a step that ends several epochs is validated once."""
    num_epochs = run.epochs_shown(run.last_step) - progress.validated_epochs
    return min(num_epochs, run.last_step - progress.step + run.is_validation_due(progress))


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _num_values(weights: Sequence[Parameter]) -> int:
    return sum(weight.numel() for weight in weights)


def _count(number: int, noun: str, plural: str | None = None) -> str:
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
