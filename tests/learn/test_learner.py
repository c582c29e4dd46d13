"""Test how the ages of the training samples define the target of a learner, and which of its layers are new."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests import sample_sets
from tests.learn.runs import SINGLE_RANK, assert_same_state, open_run, train_argv, write_small_set
from wds_bone.errors import ConfigError
from wds_bone.evaluate import main as evaluate
from wds_bone.learn.learner import Learner, build_learner, target_of
from wds_bone.learn.run import Run
from wds_bone.model.checkpoint import load_checkpoint
from wds_bone.model.loss import BIN_MARGIN
from wds_bone.train import main


def test_the_target_holds_the_mean_and_standard_deviation_of_the_training_ages():
    target = target_of(np.array([100, 140], np.float32))
    assert (target.mean_months, target.sd_months) == (120.0, 20.0)


def test_identical_ages_do_not_cause_a_division_by_zero():
    target = target_of(np.array([100, 100], np.float32))
    assert (target.mean_months, target.sd_months) == (100.0, 1.0)


def test_the_mean_of_many_ages_keeps_its_precision():
    ages = np.full(1_000_000, 127.3, np.float32)
    assert target_of(ages).mean_months == pytest.approx(float(np.float32(127.3)), abs=1e-9)


def test_the_new_layers_of_a_run_have_the_full_rate(shards: Path, tmp_path: Path):
    with open_run(train_argv(shards, tmp_path / "run", "--set", "first_layer_rate=0.1")) as run:
        model, groups = run.learner.model, run.learner.optimizer.param_groups
    factors = {id(parameter): group["rate_factor"] for group in groups for parameter in group["params"]}
    full = {name for name, parameter in model.named_parameters() if factors[id(parameter)] == 1.0}
    assert full == {"backbone.fc.weight", "backbone.fc.bias", "gender.weight", "head.1.weight", "head.1.bias"}


def learner_of(run: Run, ages_months: NDArray[np.float32]) -> Learner:
    """Return the learner of a run for other ages."""
    preprocessing = run.learner.preprocessing
    return build_learner(
        run.learner.model, run.recipe.config, SINGLE_RANK, preprocessing=preprocessing, ages_months=ages_months
    )


SKEWED = np.array([100.0] * 99 + [200.0], np.float32)


@pytest.mark.parametrize("ages", [SKEWED, 300.0 - SKEWED, SKEWED[92:]], ids=["old", "young", "not skewed"])
def test_the_bins_of_a_distribution_are_widened_for_ages_that_they_do_not_cover(
    ages: NDArray[np.float32], tmp_path: Path
):
    with open_run(train_argv(write_small_set(tmp_path / "shards"), tmp_path / "run")) as run:
        learner = learner_of(run, ages)
    assert learner.model.bins is not None
    assert torch.equal(learner.ema.bins, learner.model.bins)
    months = learner.target.to_months(learner.model.bins)
    margin = BIN_MARGIN * learner.target.sd_months - 1e-3
    assert months.min() <= ages.min() - margin
    assert months.max() >= ages.max() + margin
    is_usual = len(ages) < len(SKEWED)
    assert is_usual == (learner.model.bins.numpy() == pytest.approx(np.linspace(-3.5, 3.5, 71), abs=1e-6))


def test_bins_that_cover_the_ages_are_kept_because_initial_weights_were_trained_with_them(tmp_path: Path):
    with open_run(train_argv(write_small_set(tmp_path / "shards"), tmp_path / "run")) as run:
        wide = torch.linspace(-8.0, 4.0, 71)
        run.learner.model.bins = wide
        assert torch.equal(learner_of(run, SKEWED[92:]).model.bins, wide)


def test_a_run_with_wide_bins_resumes_and_another_run_begins_with_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    usual = write_small_set(tmp_path / "usual")
    monkeypatch.setattr(sample_sets, "age_of", lambda number: 200 if number == 3 else 100 + number % 2)
    skewed = sample_sets.write_set(tmp_path / "skewed", size=32, train=[20], val=[5])
    whole, parts, other = (tmp_path / name for name in ("whole", "parts", "other"))
    assert main(train_argv(skewed, whole)) == 0
    assert main(train_argv(skewed, parts, "--max-steps", "5")) == 0
    assert main(train_argv(skewed, parts)) == 0
    assert_same_state(whole / "last.pt", parts / "last.pt")
    wide = load_checkpoint(whole / "best.pt")["ema"]["bins"]
    assert wide[-1] > 4.3 + BIN_MARGIN - 0.1
    assert main(train_argv(usual, other, "--init-weights", str(whole / "best.pt"), "--max-steps", "3")) == 0
    assert torch.equal(load_checkpoint(other / "last.pt")["ema"]["bins"], wide)
    report = ["--checkpoint", str(other / "best.pt"), "--shards", str(usual), "--split", "val", "--device", "cpu"]
    assert evaluate([*report, "--out", str(tmp_path / "report")]) == 0


def test_so_few_bins_that_they_would_be_too_far_apart_are_refused(tmp_path: Path):
    with (
        open_run(train_argv(write_small_set(tmp_path / "shards"), tmp_path / "run", "--set", "age_bins=31")) as run,
        pytest.raises(ConfigError, match="bins cannot cover the ages of all training samples, 100") as refused,
    ):
        learner_of(run, SKEWED)
    assert refused.value.expected == "0, or at least 47"
    assert "age_bins=47" in str(refused.value.do)
