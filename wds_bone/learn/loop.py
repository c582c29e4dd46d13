"""Train a model: the loop, its steps and its validations.

In: a run and its progress.
Out: checkpoints, metrics and the new progress.
Invariant: step k is a function of (the state before it, the seed, global samples [k B, (k + 1) B)); the weights do not
depend on where a run was stopped and resumed.
"""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from wds_bone.distributed.ddp import average_statistics, sync_gradients
from wds_bone.distributed.ranks import Ranks
from wds_bone.distributed.resources import Stopwatch
from wds_bone.inference.ensemble import ensemble_of
from wds_bone.inference.epoch import predict_epoch
from wds_bone.inference.predictions import refuse_not_finite
from wds_bone.interrupt import Interruption
from wds_bone.learn.finite_check import PendingLoss, check_losses, copy_loss_to_host
from wds_bone.learn.learner import Learner, predictor_of
from wds_bone.learn.metrics import step_metrics, validation_metrics
from wds_bone.learn.metrics_log import MetricsLog
from wds_bone.learn.optimizer import ema_decay, learning_rate, update_ema, update_weights
from wds_bone.learn.run import Progress, Run
from wds_bone.learn.settings import Recipe
from wds_bone.learn.snapshot import save_best, save_last
from wds_bone.model.augment import augment
from wds_bone.model.checkpoint import LAST_NAME
from wds_bone.model.loss import weighted_loss
from wds_bone.stream.batch import Batch

SAVE_SECONDS = 600.0


def train(run: Run, progress: Progress, *, log: MetricsLog | None, interruption: Interruption) -> Progress:
    """Alternate between steps, validations and saves, until the last step or a signal; leave `last.pt` up to date.

    All ranks take the same steps and stop after the same one; the first rank has a log and writes the checkpoints.

    Raises:
        WdsBoneError: if a loss or gradient is not finite, a shard is damaged, or the disk is full.
    """
    batches, saved = run.train_stream.endless(), progress
    while True:
        if run.is_validation_due(progress):
            progress = validate(run, progress, log=log, interruption=interruption)
        stopping = run.must_stop(progress) or run.ranks.any(interruption.is_requested)
        is_elsewhere = progress.step > 0 and not (run.config.out / LAST_NAME).exists()  # `--resume` of another folder
        if progress != saved or is_elsewhere:
            save_last(run, progress)
            saved = progress
        if stopping:
            run.ranks.wait()  # the launcher must not see a process end while the first rank is still saving
            return progress
        progress = take_steps(run, progress, batches, log=log, interruption=interruption)


def take_steps(
    run: Run, progress: Progress, batches: Iterator[Batch], *, log: MetricsLog | None, interruption: Interruption
) -> Progress:
    """Take steps until it is time to validate, to save or to stop on any rank; then check all losses.

    Raises:
        WdsBoneError: if a loss or gradient is not finite.
    """
    stopwatch, losses, save_at = Stopwatch(), deque[PendingLoss](), time.monotonic() + SAVE_SECONDS
    while True:
        run.ranks.activity = f"step {progress.step + 1}"
        with stopwatch.waiting():
            batch = next(batches)
        losses.append(train_step(run.learner, batch, step=progress.step, recipe=run.recipe, ranks=run.ranks))
        progress = replace(progress, step=progress.step + 1)
        is_logged = progress.step % run.config.log_every == 0
        leave = 1 if batch.image.is_cuda and not is_logged else 0
        if batch.image.is_cuda and is_logged:
            run.ranks.wait()  # a GPU waits for all ranks to take the step, without noticing that one of them is lost
        loss = check_losses(losses, run.train_stream.step_keys, leave=leave)
        if log and is_logged:
            log.write_step(step_metrics(run, progress.step, loss=loss, stopwatch=stopwatch))
        if log:
            log.advance()
        must_pause = interruption.is_requested or time.monotonic() > save_at
        if run.ranks.any(must_pause) or run.is_validation_due(progress) or run.must_stop(progress):
            check_losses(losses, run.train_stream.step_keys)
            return progress


def train_step(learner: Learner, batch: Batch, *, step: int, recipe: Recipe, ranks: Ranks) -> PendingLoss:
    """Train on one batch, each rank on its rows, and update the weights and their average equally on all ranks.

    Args:
        learner: the learner, which is updated in place.
        batch: this rank's rows of the batch, on its device.
        step: number of steps taken before; determines the learning rate and the EMA decay.
        recipe: the recipe of the run.
        ranks: the ranks that share the batch.

    Returns:
        The loss and whether the step was skipped; on CUDA, both are still being copied to the host.
    """
    shares = torch.zeros(ranks.world_size, device=ranks.device)
    first = (step * ranks.world_size + ranks.rank) * len(batch.key)
    for number, part in enumerate(batch.parts(recipe.config.accumulate), 1):
        with sync_gradients(learner.ddp, now=number == recipe.config.accumulate):
            shares[ranks.rank] += add_gradients(learner, part, first=first, recipe=recipe, world_size=ranks.world_size)
        first += len(part.key)
    ranks.sum_(shares)
    rate = learning_rate(step, num_steps=recipe.num_steps, peak=recipe.peak_rate, warmup=recipe.config.warmup)
    clip_norm = recipe.config.clip_norm
    skipped = update_weights(learner.model, learner.optimizer, loss=shares, rate=rate, clip_norm=clip_norm)
    average_statistics(learner.model, ranks)
    update_ema(learner.averaged, decay=ema_decay(step, largest=recipe.ema))
    return copy_loss_to_host(shares, skipped, step=step + 1)


def add_gradients(learner: Learner, batch: Batch, *, first: int, recipe: Recipe, world_size: int) -> Tensor:
    """Add the gradients of some rows of the global batch, and return their share of its loss, a scalar.

    Args:
        learner: the learner whose gradients are added to.
        batch: the rows.
        first: position of the first row in the endless sequence; seeds the model's random layers.
        recipe: the recipe of the run.
        world_size: number of ranks; DDP averages gradients over the ranks, so the loss is scaled up to get their sum.
    """
    torch.manual_seed((recipe.config.seed << 32) + first)
    image = augmented(learner, batch, recipe, step=first // recipe.global_batch_size)
    with torch.autocast(image.device.type, torch.bfloat16, enabled=learner.precision is torch.bfloat16):
        outputs = learner.forward(image.contiguous(memory_format=torch.channels_last), batch.gender)
    share = weighted_loss(
        outputs,
        batch.age_months,
        _weights(learner, batch),
        target=learner.target,
        beta_months=recipe.config.loss_beta_months,
        num_samples=recipe.global_batch_size,
        bins=learner.model.bins,
    )
    (share * world_size).backward()  # type: ignore[no-untyped-call]
    return share.detach()


def _weights(learner: Learner, batch: Batch) -> Tensor:
    """Return the weight of each sample in the loss, float32 (B,)."""
    if learner.age_weights is None:
        return batch.weight
    return batch.weight * learner.age_weights[batch.age_months.round().long()]


@torch.no_grad()
def augmented(learner: Learner, batch: Batch, recipe: Recipe, *, step: int) -> Tensor:
    """Return the images of a batch as the model receives them in a training step, float32 (B, 1, H, W)."""
    return augment(
        batch.image,
        batch.position,
        preprocessing=learner.preprocessing.reduced(image_fraction(step, recipe)),
        seed=recipe.config.seed,
        ranges=recipe.ranges,
    )


def image_fraction(step: int, recipe: Recipe) -> float:
    """Return the size of the images in a step, as a fraction of the final one, which they have in the last third."""
    first = recipe.config.first_size
    return first + (1.0 - first) * min(1.0, 1.5 * step / recipe.num_steps)


def validate(run: Run, progress: Progress, *, log: MetricsLog | None, interruption: Interruption) -> Progress:
    """Predict the validation samples with the averaged weights, and save them as `best.pt` if they are the best so far.

    Returns:
        The progress including this validation, or `progress` itself if a signal arrived meanwhile.

    Raises:
        WdsBoneError: if a prediction is not finite; nothing is written in that case.
    """
    start = time.perf_counter()
    predictions = predict_epoch(
        ensemble_of(predictor_of(run.learner)),
        run.val_stream,
        run.ranks,
        give_up=lambda: run.ranks.any(interruption.is_requested),
    )
    if predictions is None:
        return progress
    refuse_not_finite(predictions.predicted_months, predictions.key, where=f"validation after step {progress.step}")
    metrics = validation_metrics(run, progress.step, predictions)
    mae_months, epoch = metrics["val_mae_months"], run.epochs_shown(progress.step)
    progress = replace(progress, validated_epochs=epoch)
    if progress.best_mae_months is None or mae_months < progress.best_mae_months:
        progress = replace(progress, best_mae_months=mae_months, best_epoch=epoch)
        save_best(run, progress, predictions)
    if log:
        metrics |= {"best_epoch": progress.best_epoch, "val_seconds": time.perf_counter() - start}
        log.write_validation(metrics, predictions)
    return progress
