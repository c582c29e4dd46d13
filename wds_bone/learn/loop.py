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

from wds_bone.learn.augment import augment
from wds_bone.learn.average import move_average
from wds_bone.learn.interrupt import Interruption
from wds_bone.learn.journal import Journal
from wds_bone.learn.learner import Learner
from wds_bone.learn.metrics import absolute_errors, bootstrap_interval, constant_error
from wds_bone.learn.objective import weighted_loss
from wds_bone.learn.optimiser import update_weights
from wds_bone.learn.predictor import predictor_of
from wds_bone.learn.resources import Stopwatch, resident_bytes
from wds_bone.learn.run import Progress, Recipe, Run
from wds_bone.learn.schedule import ema_decay, learning_rate
from wds_bone.learn.snapshot import BEST_NAME, LAST_NAME, save_snapshot
from wds_bone.learn.validate import Predictions, predict_epoch, refuse_not_finite
from wds_bone.learn.verdict import Verdict, hear, request_verdict
from wds_bone.stream.batch import Batch

SAVE_SECONDS = 600.0


def train(run: Run, progress: Progress, *, journal: Journal, interruption: Interruption) -> Progress:
    """Make steps until the last one or until a signal; validate after each epoch; leave `last.pt` up to date.

    Raises:
        WdsBoneError: a loss or gradient that is not finite, a damaged shard, a full disk.
    """
    batches, stopwatch, pending = run.train_stream.endless(), Stopwatch(), deque[Verdict]()
    saved, saved_at = progress, time.monotonic()
    while True:
        due = run.shown_epochs(progress.step) > progress.validated_epochs
        if due:
            hear(pending)
            progress = validate(run, progress, journal=journal, interruption=interruption)
            stopwatch.restart()
        stopping = progress.step >= run.last_step or interruption.signal_number is not None
        if progress != saved and (due or stopping or time.monotonic() - saved_at > SAVE_SECONDS):
            hear(pending)
            save_snapshot(run, progress, name=LAST_NAME)
            saved, saved_at = progress, time.monotonic()
        if stopping:
            return progress
        with stopwatch.waiting():
            batch = next(batches)
        pending.append(train_step(run.learner, batch, step=progress.step, recipe=run.recipe))
        progress = replace(progress, step=progress.step + 1)
        written = progress.step % run.log_every == 0
        loss = hear(pending, leave=1 if batch.image.is_cuda and not written else 0)
        if written:
            journal.write_step(step_line(run, progress.step, loss=loss, stopwatch=stopwatch))
        journal.advance()


def train_step(learner: Learner, batch: Batch, *, step: int, recipe: Recipe) -> Verdict:
    """Show the model one batch and move its weights and its average.

    Args:
        learner: changed in place.
        batch: on the learner's device.
        step: steps made before; decides learning rate, EMA decay and the model's random layers.
        recipe: of the run.

    Returns:
        The loss and whether the update was refused, on their way to the host.
    """
    torch.manual_seed((recipe.seed << 32) + step)
    with torch.no_grad():
        plain = learner.preprocessing.normalise(batch.image)
        image = augment(plain, batch.position, seed=recipe.seed, ranges=recipe.ranges)
    with torch.autocast(image.device.type, torch.bfloat16, enabled=learner.precision is torch.bfloat16):
        standardised = learner.forward(image.contiguous(memory_format=torch.channels_last), batch.gender)
    loss = weighted_loss(standardised, batch.age_months, batch.weight, target=learner.target)
    loss.backward()  # type: ignore[no-untyped-call]
    rate = learning_rate(step, num_steps=recipe.num_steps, peak=recipe.peak_rate)
    refused = update_weights(learner.model, learner.optimiser, loss=loss, rate=rate)
    move_average(learner.average, learner.model, decay=ema_decay(step, longest=recipe.ema))
    return request_verdict(loss.detach(), refused, step=step + 1, keys=batch.key)


def validate(run: Run, progress: Progress, *, journal: Journal, interruption: Interruption) -> Progress:
    """Predict the validation samples with the average, and keep it as `best.pt` if it is the best so far.

    Returns:
        The progress with this validation in it, or unchanged if a signal came meanwhile.

    Raises:
        WdsBoneError: a prediction that is not finite; nothing is written then.
    """
    start = time.perf_counter()
    predictions = predict_epoch(
        predictor_of(run.learner), run.val_stream, give_up=lambda: interruption.signal_number is not None
    )
    if predictions is None:
        return progress
    refuse_not_finite(predictions.predicted_months, predictions.key, place=f"validation after step {progress.step}")
    line = validation_line(run, progress.step, predictions)
    mae_months, epoch = line["val_mae_months"], run.shown_epochs(progress.step)
    progress = replace(progress, validated_epochs=epoch)
    if progress.best_mae_months is None or mae_months < progress.best_mae_months:
        progress = replace(progress, best_mae_months=mae_months, best_epoch=epoch)
        save_snapshot(run, progress, name=BEST_NAME)
    journal.write_validation({**line, "best_epoch": progress.best_epoch, "val_seconds": time.perf_counter() - start})
    return progress


def step_line(run: Run, step: int, *, loss: float, stopwatch: Stopwatch) -> dict[str, Any]:
    """Return the metrics of a step; rates are means since the last such line."""
    steps_per_second, wait_fraction = stopwatch.lap()
    return {
        **_place(run, step),
        "loss": loss,
        "lr": learning_rate(step - 1, num_steps=run.recipe.num_steps, peak=run.recipe.peak_rate),
        "images_per_second": steps_per_second * run.batch_size,
        "wait_fraction": wait_fraction,
        "rss_bytes": resident_bytes(),
    }


def validation_line(run: Run, step: int, predictions: Predictions) -> dict[str, Any]:
    """Return the metrics of a validation, with the error of predicting without looking beside them."""
    errors_months = absolute_errors(predictions.predicted_months, predictions.age_months)
    low, high = bootstrap_interval(errors_months)
    return {
        **_place(run, step),
        "val_mae_months": float(errors_months.mean()),
        "val_mae_low_months": low,
        "val_mae_high_months": high,
        "constant_mae_months": constant_error(run.train_stream.ages_months, predictions.age_months),
    }


def _place(run: Run, step: int) -> dict[str, Any]:
    samples = step * run.batch_size
    return {"step": step, "epoch": samples / run.train_stream.num_samples, "samples": samples}
