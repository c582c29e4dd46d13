"""Test how the ages of the training samples define the target of a learner, and which of its layers are new."""

from pathlib import Path

import numpy as np
import pytest

from tests.learn.runs import open_run, train_argv
from wds_bone.learn.learner import target_of


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
