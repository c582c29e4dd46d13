"""Batches -> a trained model: the loop, on one screen.

In come a run and its progress, out go checkpoints, metrics and the progress made. The invariant: step k is a function
of (the state before it, the seed, global samples [k B, (k + 1) B)); where a run was stopped and resumed cannot be seen
in its weights.
"""

import time
from collections import deque
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from wds_bone.distributed.interrupt import Interruption
from wds_bone.distributed.parallel import average_statistics, exchange_gradients
from wds_bone.distributed.ranks import Ranks
from wds_bone.distributed.resources import Stopwatch, peak_bytes, resident_bytes
from wds_bone.learn.average import move_average
from wds_bone.learn.journal import Journal
from wds_bone.learn.learner import Learner, predictor_of
from wds_bone.learn.metrics import absolute_errors, bootstrap_interval, constant_error
from wds_bone.learn.optimizer import update_weights
from wds_bone.learn.run import Progress, Recipe, Run
from wds_bone.learn.schedule import ema_decay, learning_rate
from wds_bone.learn.snapshot import BEST_NAME, LAST_NAME, save_snapshot
from wds_bone.learn.validate import Predictions, predict_epoch, refuse_not_finite
from wds_bone.learn.verdict import Verdict, hear, request_verdict
from wds_bone.model.augment import augment
from wds_bone.model.objective import weighted_loss
from wds_bone.stream.batch import Batch

SAVE_SECONDS = 600.0


def train(run: Run, progress: Progress, *, journal: Journal | None, interruption: Interruption) -> Progress:
    """Make steps until the last one or until a signal; validate after each epoch; leave `last.pt` up to date.

    All ranks make the same steps and stop at the same one; the first of them has a journal and writes the checkpoints.

    Raises:
        WdsBoneError: a loss or gradient that is not finite, a damaged shard, a full disk.
    """
    batches, stopwatch, pending = run.train_stream.endless(), Stopwatch(), deque[Verdict]()
    saved, saved_at = progress, time.monotonic()
    keys_of_step = run.train_stream.step_keys
    while True:
        run.ranks.activity = f"step {progress.step + 1}"
        due = run.shown_epochs(progress.step) > progress.validated_epochs
        if due:
            hear(pending, keys_of_step)
            progress = validate(run, progress, journal=journal, interruption=interruption)
            stopwatch.restart()
        over = progress.step >= run.last_step or run.is_over(progress)
        stopping = over or run.ranks.any(interruption.signal_number is not None)
        if progress != saved and (due or stopping or time.monotonic() - saved_at > SAVE_SECONDS):
            hear(pending, keys_of_step)
            save_snapshot(run, progress, name=LAST_NAME)
            saved, saved_at = progress, time.monotonic()
        if stopping:
            run.ranks.wait()  # no launcher shall see a process end while the first one still saves
            return progress
        with stopwatch.waiting():
            batch = next(batches)
        pending.append(train_step(run.learner, batch, step=progress.step, recipe=run.recipe, ranks=run.ranks))
        progress = replace(progress, step=progress.step + 1)
        written = progress.step % run.log_every == 0
        loss = hear(pending, keys_of_step, leave=1 if batch.image.is_cuda and not written else 0)
        if journal and written:
            journal.write_step(step_line(run, progress.step, loss=loss, stopwatch=stopwatch))
        if journal:
            journal.advance()


def train_step(learner: Learner, batch: Batch, *, step: int, recipe: Recipe, ranks: Ranks) -> Verdict:
    """Show the model one batch, each rank its rows, and move the weights and their average alike on all ranks.

    Args:
        learner: changed in place.
        batch: this rank's rows, on its device.
        step: steps made before; decides learning rate and EMA decay.
        recipe: of the run.
        ranks: which share the batch.

    Returns:
        The loss and whether the update was refused, on their way to the host.
    """
    shares = torch.zeros(ranks.world_size, device=ranks.device)
    first = (step * ranks.world_size + ranks.rank) * len(batch.key)
    for number, part in enumerate(batch.parts(recipe.accumulate), 1):
        with exchange_gradients(learner.parallel, now=number == recipe.accumulate):
            shares[ranks.rank] += add_gradients(learner, part, first=first, recipe=recipe, world_size=ranks.world_size)
        first += len(part.key)
    ranks.sum_(shares)
    rate = learning_rate(step, num_steps=recipe.num_steps, peak=recipe.peak_rate)
    refused = update_weights(learner.model, learner.optimizer, loss=shares, rate=rate)
    average_statistics(learner.model, ranks)
    move_average(learner.average, learner.model, decay=ema_decay(step, longest=recipe.ema))
    return request_verdict(shares, refused, step=step + 1)


def add_gradients(learner: Learner, batch: Batch, *, first: int, recipe: Recipe, world_size: int) -> Tensor:
    """Add to the gradients what some rows of a step's batch give, and return their share of its loss, a scalar.

    Args:
        learner: its gradients change.
        batch: the rows.
        first: the position of the first row in the endless sequence; decides the model's random layers.
        recipe: of the run.
        world_size: over so many ranks the gradients are averaged; what is wanted is their sum.
    """
    torch.manual_seed((recipe.seed << 32) + first)
    image = augmented(learner, batch, recipe)
    with torch.autocast(image.device.type, torch.bfloat16, enabled=learner.precision is torch.bfloat16):
        standardized = learner.forward(image.contiguous(memory_format=torch.channels_last), batch.gender)
    share = weighted_loss(
        standardized, batch.age_months, batch.weight, target=learner.target, weight_sum=recipe.batch_size
    )
    (share * world_size).backward()  # type: ignore[no-untyped-call]
    return share.detach()


@torch.no_grad()
def augmented(learner: Learner, batch: Batch, recipe: Recipe) -> Tensor:
    """Return the images of a batch as the model is shown them, float32 (B, 1, H, W)."""
    plain = learner.preprocessing.normalize(batch.image)
    return augment(plain, batch.position, seed=recipe.seed, ranges=recipe.ranges)


def augmented_inputs(run: Run) -> Tensor:
    """Return the first images of the run, or this rank's part of them, as the model is shown them."""
    return augmented(run.learner, run.train_stream[0], run.recipe)


def validate(run: Run, progress: Progress, *, journal: Journal | None, interruption: Interruption) -> Progress:
    """Predict the validation samples with the average, and keep it as `best.pt` if it is the best so far.

    Returns:
        The progress with this validation in it, or unchanged if a signal came meanwhile.

    Raises:
        WdsBoneError: a prediction that is not finite; nothing is written then.
    """
    start = time.perf_counter()
    predictions = predict_epoch(
        predictor_of(run.learner),
        run.val_stream,
        run.ranks,
        give_up=lambda: run.ranks.any(interruption.signal_number is not None),
    )
    if predictions is None:
        return progress
    refuse_not_finite(predictions.predicted_months, predictions.key, where=f"validation after step {progress.step}")
    line = validation_line(run, progress.step, predictions)
    mae_months, epoch = line["val_mae_months"], run.shown_epochs(progress.step)
    progress = replace(progress, validated_epochs=epoch)
    if progress.best_mae_months is None or mae_months < progress.best_mae_months:
        progress = replace(progress, best_mae_months=mae_months, best_epoch=epoch)
        save_snapshot(run, progress, name=BEST_NAME)
    if journal:
        line |= {"best_epoch": progress.best_epoch, "val_seconds": time.perf_counter() - start}
        journal.write_validation(line, predictions)
    return progress


def step_line(run: Run, step: int, *, loss: float, stopwatch: Stopwatch) -> dict[str, Any]:
    """Return the metrics of a step; rates are means since the last such line."""
    steps_per_second, wait_fraction = stopwatch.lap()
    return {
        **_counters(run, step),
        "loss": loss,
        "lr": learning_rate(step - 1, num_steps=run.recipe.num_steps, peak=run.recipe.peak_rate),
        "images_per_second": steps_per_second * run.recipe.batch_size,
        "wait_fraction": wait_fraction,
        "rss_bytes": resident_bytes(),
        **({"device_peak_bytes": peak_bytes(run.ranks.device)} if run.ranks.device.type == "cuda" else {}),
    }


def validation_line(run: Run, step: int, predictions: Predictions) -> dict[str, Any]:
    """Return the metrics of a validation, with the error of predicting without looking beside them."""
    errors_months = absolute_errors(predictions.predicted_months, predictions.age_months)
    low, high = bootstrap_interval(errors_months)
    return {
        **_counters(run, step),
        "val_mae_months": float(errors_months.mean()),
        "val_mae_low_months": low,
        "val_mae_high_months": high,
        "constant_mae_months": constant_error(run.train_stream.ages_months, predictions.age_months),
    }


def _counters(run: Run, step: int) -> dict[str, Any]:
    samples = step * run.recipe.batch_size
    return {"step": step, "epoch": samples / run.train_stream.num_samples, "samples": samples}
