"""Test the training loop: signals, saves, and what a run leaves behind when it fails."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tests.learn.runs import assert_same_state, metrics_of, open_run, train_argv
from wds_bone.errors import WdsBoneError
from wds_bone.inference.ensemble import load_ensemble
from wds_bone.inference.predictions import read_predictions
from wds_bone.interrupt import Interruption
from wds_bone.learn import loop
from wds_bone.learn.metrics_log import MetricsLog
from wds_bone.learn.run import Progress, Run
from wds_bone.model.checkpoint import load_checkpoint
from wds_bone.train import main


@contextmanager
def new_run(shards: Path, out: Path, *more: str) -> Iterator[Run]:
    out.mkdir()
    with open_run(train_argv(shards, out, *more)) as run:
        yield run


class WatchedLog(MetricsLog):
    """Calls `after_step(number of steps)` after every step."""

    after_step: Callable[[int], None]
    num_advanced = 0

    def advance(self) -> None:
        super().advance()
        self.num_advanced += 1
        self.after_step(self.num_advanced)


def train_watched(run: Run, after_step: Callable[[int], None]) -> tuple[Progress, Interruption]:
    with (
        Interruption() as interruption,
        interruption.deferred(),
        WatchedLog(run.config.out, progress=Progress(), num_steps=5) as log,
    ):
        log.after_step = after_step
        return loop.train(run, Progress(), log=log, interruption=interruption), interruption


@pytest.mark.parametrize("stop_at", [1, 3, *(pytest.param(step, marks=pytest.mark.slow) for step in (2, 5))])
@pytest.mark.fault("E3")
def test_a_signal_stops_training_after_the_step_with_a_checkpoint_to_resume_from(
    stop_at: int, shards: Path, finished: Path, tmp_path: Path
):
    """Steps 3 and 5 end an epoch; there the signal arrives before the validation, which the resumed run then makes."""
    out = tmp_path / "interrupted"
    with new_run(shards, out) as run:
        progress, interruption = train_watched(
            run, lambda step: os.kill(os.getpid(), signal.SIGTERM) if step == stop_at else None
        )
    assert interruption.exit_code == 143
    assert progress.step == load_checkpoint(out / "last.pt")["progress"]["step"] == stop_at
    assert main(train_argv(shards, out)) == 0
    assert_same_state(out / "last.pt", finished / "last.pt")
    assert_same_state(out / "best.pt", finished / "best.pt")
    assert metrics_of(out) == metrics_of(finished)


@pytest.mark.fault("F1")
def test_the_state_is_saved_periodically_between_validations(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    with new_run(shards, tmp_path / "run", "--lr", "1e30") as run, pytest.raises(WdsBoneError, match="step 2"):
        train_watched(run, lambda step: None)
    assert load_checkpoint(tmp_path / "run" / "last.pt")["progress"]["step"] == 1


def test_prefetched_batches_do_not_advance_the_position(shards: Path, tmp_path: Path):
    positions = []
    with new_run(shards, tmp_path / "run") as run:
        train_watched(run, lambda step: positions.append(run.train_stream.position))
    assert positions == [4, 8, 12, 16, 20]


@pytest.mark.fault("E1")
def test_predictions_that_are_not_finite_end_the_run_before_anything_is_saved(shards: Path, tmp_path: Path):
    out = tmp_path / "run"
    with new_run(shards, out) as run, pytest.raises(WdsBoneError, match=r"validation after step 3: 5 predictions"):
        train_watched(run, lambda step: run.learner.ema.head[1].bias.fill_(torch.nan))
    assert [path.name for path in out.iterdir() if path.suffix == ".pt"] == []
    assert [line["step"] for line in metrics_of(out)] == [1, 2, 3]
    assert not any("val_mae_months" in line for line in metrics_of(out))


@pytest.mark.fault("E3")
def test_a_validation_that_was_logged_but_not_saved_is_not_logged_twice(shards: Path, finished: Path, tmp_path: Path):
    """The run is killed between logging the validation and saving it, after a signal has already saved the step."""
    out = tmp_path / "killed"
    with new_run(shards, out) as run:
        train_watched(run, lambda step: os.kill(os.getpid(), signal.SIGTERM) if step == 3 else None)
    before_validation = (out / "last.pt").read_bytes()
    assert main(train_argv(shards, out, "--max-steps", "3")) == 0
    (out / "last.pt").write_bytes(before_validation)
    assert main(train_argv(shards, out)) == 0
    assert metrics_of(out) == metrics_of(finished)


def trained_weights(shards: Path, out: Path, *more: str) -> dict[str, torch.Tensor]:
    """Return the weights after a run with these settings."""
    with new_run(shards, out, *more) as run:
        train_watched(run, lambda step: None)
    weights: dict[str, torch.Tensor] = load_checkpoint(out / "last.pt")["model"]
    return weights


def test_the_same_recipe_gives_the_same_weights(shards: Path, finished: Path, tmp_path: Path):
    weights, others = load_checkpoint(finished / "last.pt")["model"], trained_weights(shards, tmp_path / "run")
    assert all(torch.equal(weights[name], others[name]) for name in weights)


@pytest.mark.parametrize(
    "setting",
    [
        "warmup=0.5",
        "clip_norm=0.01",
        "loss_beta_months=40",
        "weight_decay=0.5",
        "age_bins=31",
        "rare_ages=1.0",
        "gender_fusion=film",
        "first_layer_rate=0.1",
        "augment_noise=0.5",
    ],
)
def test_every_number_of_the_recipe_changes_the_weights(setting: str, shards: Path, finished: Path, tmp_path: Path):
    """Those of the backbone, which is the same with every head; `first_size` is in `test_growing_images.py`."""
    weights = load_checkpoint(finished / "last.pt")["model"]
    others = trained_weights(shards, tmp_path / "run", "--set", setting)
    assert not all(torch.equal(weights[name], others[name]) for name in weights if name.startswith("backbone."))


def test_a_clip_norm_of_0_does_not_limit_the_gradient(shards: Path, tmp_path: Path):
    weights = trained_weights(shards, tmp_path / "none", "--set", "clip_norm=0")
    others = trained_weights(shards, tmp_path / "huge", "--set", "clip_norm=1e30")
    assert all(torch.equal(weights[name], others[name]) for name in weights)


@pytest.mark.parametrize(
    "head", [("age_bins=0",), ("age_bins=31",), ("gender_fusion=film",), ("age_bins=31", "gender_fusion=heads")]
)
def test_a_checkpoint_predicts_with_the_head_that_was_trained(head: tuple[str, ...], shards: Path, tmp_path: Path):
    out = tmp_path / "run"
    with new_run(shards, out, "--set", *head) as run:
        train_watched(run, lambda step: None)
        validated = read_predictions(out / "predictions.csv")
        (member,) = load_ensemble([out / "best.pt"], device="cpu").members
        batch = run.val_stream[0]
        months = member.predictor.predict_months(batch.image, batch.gender)
    assert member.predictor.model.shape == run.learner.model.shape
    assert months.tolist() == pytest.approx(validated.predicted_months[:4].tolist(), abs=1e-3)
